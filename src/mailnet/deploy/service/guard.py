"""What every request passes: who may ask, what every answer carries, and a line in the log."""

from __future__ import annotations

import hmac
import json
import logging
import secrets
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mailnet.deploy.service.log import event, of_exception
from mailnet.deploy.service.metrics import Metrics
from mailnet.deploy.service.refusal import Refused
from mailnet.deploy.service.settings import Settings

LOCAL = ("localhost", "127.0.0.1", "::1")
GONE = 499  # as nginx logs a client that did not wait
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
ROUTES = ("/healthz", "/metrics", "/openapi.json")


class Guard:
    """Wraps the application.

    Args:
        app: The application.
        settings: Token, address and names.
        metrics: Counts requests.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, number = time.perf_counter(), secrets.token_hex(8)
        route = _route(scope["path"])
        state: dict[str, int] = {"status": 0}
        scope.setdefault("state", {})["number"] = number

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                state["status"] = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers["X-Request-ID"] = number
            await send(message)

        try:
            self._check(scope)
            await self.app(scope, receive, guarded)
        except Refused as error:
            await refuse(error, guarded)
        except Exception as error:
            event("failed", logging.ERROR, request=number, route=route, **of_exception(error))
            if not state["status"]:
                await refuse(Refused(500, "the service has failed", f"Tell its operator the request {number}"), guarded)
        finally:
            status, seconds = state["status"] or GONE, time.perf_counter() - start
            self.metrics.requests.labels(route, status).inc()
            self.metrics.seconds.labels(route).observe(seconds)
            event("request", request=number, method=_method(scope), route=route, status=status,
                  milliseconds=round(seconds * 1000, 1), **scope["state"].get("said", {}))  # fmt: skip

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = _name_of(headers.get("host", ""))
        known = {*LOCAL, *self.settings.hosts, self.settings.host.lower()}
        # A page elsewhere whose name was pointed at this machine (DNS rebinding) still calls it by that name.
        if (self.settings.loopback or self.settings.hosts) and host not in known:
            raise Refused(421, "the service is not known by this name", "Its operator allows names with --allow-host")
        origin = headers.get("origin")
        if headers.get("sec-fetch-site") == "cross-site" or (
            origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
        ):
            raise Refused(403, "requests from pages of other sites are not answered", "Use the service's own page")
        token = self.settings.token
        if token is not None and (scope["path"].startswith("/v1/") or scope["path"] == "/metrics"):
            kind, _, given = headers.get("authorization", "").partition(" ")
            matches = hmac.compare_digest(given.strip().encode(), token.encode())
            if kind.lower() != "bearer" or not matches:
                raise Refused(401, "the token is missing or wrong", "Send 'Authorization: Bearer TOKEN'")


async def refuse(error: Refused, send: Send) -> None:
    """Send a refusal."""
    headers = [(b"content-type", b"application/json")]
    if error.retry is not None:
        headers.append((b"retry-after", str(error.retry).encode()))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    body = json.dumps(error.as_dict()).encode()
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _name_of(host: str) -> str:
    """Return the name in a Host header, without its port.

    >>> _name_of("[::1]:8000"), _name_of("LocalHost:80")
    ('::1', 'localhost')
    """
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.lower()


def _route(path: str) -> str:
    """Return a name for the log and the counters: a path that nobody knows may be anything."""
    if path in ROUTES or (path.startswith("/v1/") and path[4:] in ("models", "predict", "explain", "preview", "dicom")):
        return path
    return "page"


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "OPTIONS") else "other"
