"""Logs as lines of JSON on stderr, of requests and of the server, never of what a request holds."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import datetime, timezone
from typing import Any

LOGGER = logging.getLogger("mailnet.service")
# Python's warnings and the libraries' logs may quote a file's header or a table's cell.
_OURS = ("mailnet.service", "uvicorn.error")


class Lines(logging.Formatter):
    """One JSON object a record: time, level, event, and the fields that the record was given."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; of an exception its type and where it arose, without its text."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line |= of_exception(record.exc_info[1])
        return json.dumps(line)


def of_exception(error: BaseException) -> dict[str, Any]:
    """Return what may be logged of an exception: its type, and file, line and function of each frame."""
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
    return {"exception": type(error).__name__, "frames": where}


def event(name: str, level: int = logging.INFO, **fields: Any) -> None:
    """Log an event with fields."""
    LOGGER.log(level, name, extra={"fields": fields})


def set_up_logs() -> None:
    """Send our lines and the server's to stderr, and all others nowhere."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    for name in _OURS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers = [logging.NullHandler()]
