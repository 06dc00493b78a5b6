"""Runs the application with uvicorn until it is told to stop, then answers what it has accepted."""

from __future__ import annotations

import logging
import math
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import uvicorn

from mailnet.deploy.service.app import create_app
from mailnet.deploy.service.log import event, set_up_logs
from mailnet.deploy.service.served import Served
from mailnet.deploy.service.settings import Settings
from mailnet.errors import ConfigError, RunError

CONNECTIONS = 4  # open ones a place in the queue: browsers keep several
SHORTEST_TOKEN = 16
BACKLOG = 2048


def serve(
    models: Mapping[str, Served], settings: Settings, ready: Callable[[str], object] = lambda address: None
) -> None:
    """Serve models until SIGTERM or SIGINT; requests that were accepted by then are answered.

    Args:
        models: Name -> model.
        settings: Address, limits and token.
        ready: Told of the address, such as ``http://127.0.0.1:8000``, once it can be asked.

    Raises:
        ConfigError: Others could reach it, and it has no token.
        RunError: The address cannot be used.
    """
    if not settings.loopback and settings.token is None:
        remedy = "Give one with --token-file, or listen on 127.0.0.1"
        raise ConfigError(f"{settings.host} can be reached by others and there is no token", remedy=remedy)
    listening = _listen(settings)
    set_up_logs()
    config = uvicorn.Config(
        create_app(models, settings),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        limit_concurrency=max(1024, CONNECTIONS * settings.queue),
        timeout_graceful_shutdown=math.ceil(2 * settings.timeout) + 5,
    )
    # Uvicorn raises the signal that stopped it once more, which would otherwise end the process with an error.
    before = signal.signal(signal.SIGTERM, _leave)
    port = listening.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    event("listening", port=port, models=len(models))
    ready(f"http://{host}:{port}")
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code:
            raise
    finally:
        signal.signal(signal.SIGTERM, before)
        event("stopped", logging.INFO)


def read_token(path: Path) -> str:
    """Return the token that a file holds.

    Raises:
        ConfigError: It cannot be read, is too short to be safe, or holds more than a word.
    """
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("cannot be read", file=path, remedy="Write a token into it") from error
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        message = f"holds no token of at least {SHORTEST_TOKEN} letters without spaces"
        raise ConfigError(message, file=path, remedy="Write one, such as 'openssl rand -hex 24' gives")
    return token


def new_token() -> str:
    """Return a token that nobody guesses."""
    return secrets.token_urlsafe(24)


def _listen(settings: Settings) -> socket.socket:
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        remedy = "Choose another --port or --host"
        raise RunError(f"cannot listen on {settings.host}:{settings.port} ({reason})", remedy=remedy) from error


def _leave(number: int, frame: Any) -> None:
    sys.exit(0)
