"""What a request is refused with: a status, one clear line and a remedy, and nothing of this machine."""

from __future__ import annotations

import re
from typing import Any

from mailnet.errors import MailnetError

LONGEST = 400
# An absolute path, but a route of the service: a folder of this machine is nobody's business.
_PATH = re.compile(r"(?<![\w/.])(?!/v1/[a-z]+(?![\w/\\.-]))(?:[A-Za-z]:)?(?:[/\\][^\s/\\'\",;:()<>]+){2,}[/\\]?")
# What only who has the study's table, or its study.yaml, can do.
_KEYS = ("channels|convert|frame|kind|max_pixels|max_voxels|neighbours|percentiles|plane|range|select|slice|spacing|"
         "units|window")  # fmt: skip
_STUDY = re.compile(rf"'(?:{_KEYS})\b")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_ASIDE = re.compile(r",? or leave the study out(?: with --skip-bad)?")


class Refused(Exception):
    """A request that cannot be answered.

    Args:
        status: Of HTTP.
        message: What is wrong.
        remedy: What the client should do.
        retry: Seconds after which the same request may succeed.
    """

    def __init__(self, status: int, message: str, remedy: str | None = None, *, retry: int | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.remedy, self.retry = status, plain(message), remedy and plain(remedy), retry

    def as_dict(self) -> dict[str, Any]:
        """Return the body of the answer."""
        return {"error": {"message": self.message, "remedy": self.remedy}}


def busy(message: str = "the service is busy") -> Refused:
    """Return the one refusal that is not the client's fault: there is no room now."""
    return Refused(503, message, "Send the request again in a moment", retry=1)


def unusable(error: MailnetError, modality: str | None = None) -> Refused:
    """Return what a client is told of a study that the library refuses: no file, no identifier.

    Args:
        error: What the library says.
        modality: What the study's file was sent as, where the error does not say.
    """
    name = error.modality or modality
    message = f"{name}: {error.message}" if name else error.message
    remedy = _ASIDE.sub("", error.remedy) if error.remedy else None
    if remedy and _STUDY.search(remedy):
        remedy = "Send a file like those that the model was trained on"
    return Refused(422, message, remedy)


def plain(text: str) -> str:
    """Return a text as one line without paths, that any encoding can hold.

    >>> plain("cannot open /tmp/a/b.png\\nnow")
    'cannot open a file now'
    >>> plain("/v1/predict answers what /v1/data/a.png is")
    '/v1/predict answers what a file is'
    """
    line = " ".join(text.encode("utf-8", "replace").decode().split())
    line = _ADDRESS.sub("", _PATH.sub("a file", line))
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."
