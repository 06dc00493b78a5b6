"""Receives a multipart form: files to a private folder under names of our own, all of it limited while it streams."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import python_multipart
from anyio import to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from mailnet.deploy.service.refusal import Refused, busy
from mailnet.deploy.service.settings import MAX_TEXT, Settings

TEXTS = ("table", "id")
OVERHEAD = 2**16  # bytes of a form besides its parts' contents, and besides each part's header
LINGER = 10.0  # seconds for which the rest of a refused upload is read and thrown away
_PIECE = 2**20  # bytes that are written at once
_NAME = 256

Stored = Callable[[int], None]


@dataclass
class Upload:
    """A form as it was received. Its files go with the last of those who use it; at first that is one.

    Args:
        folder: Where its files lie.
        files: Field -> files, in their order.
        texts: ``table`` and ``id``, where they were sent.
        size: Bytes of the request.
    """

    folder: Path
    files: dict[str, list[Path]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    size: int = 0
    _users: int = field(default=1, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def hold(self) -> None:
        """Use it too; ``release`` has to follow."""
        with self._lock:
            self._users += 1

    def release(self) -> None:
        """Use it no longer; the last one removes the files."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            shutil.rmtree(self.folder, ignore_errors=True)


async def receive(request: Request, root: Path, settings: Settings, stored: Stored) -> Upload:
    """Return the form of a request, its files in a new folder below ``root`` that the caller has to release.

    Args:
        request: Its body has not been read.
        root: A private folder.
        settings: The limits.
        stored: Told of bytes that will lie on the disk; raises where there is no room.

    Raises:
        Refused: It is no form, too large, cut short, or there is no room; nothing of it is left.
        ClientDisconnect: The client went away; nothing of it is left.
    """
    try:
        form = _form_of(request, settings)
    except Refused:
        # A client that asked beforehand sends nothing once it has been refused.
        if request.headers.get("expect", "").lower() != "100-continue":
            await _linger(request.stream())
        raise
    upload = Upload(root / secrets.token_hex(8))
    receiver = _Receiver(upload, settings)
    stream = request.stream()
    try:
        parser = python_multipart.MultipartParser(form, receiver.callbacks(), max_header_count=16)
        async for piece in stream:
            upload.size += len(piece)
            if upload.size > settings.max_upload + OVERHEAD:
                raise _too_large(settings)
            stored(len(piece))
            try:
                parser.write(piece)
            except FormParserError:
                raise Refused(
                    400, "the body is no multipart form", "Send multipart/form-data, as curl -F does"
                ) from None
            await receiver.flush(_PIECE)
        await receiver.flush(0)
        if not receiver.whole:
            raise Refused(400, "the form is cut short", "Send it again")
    except BaseException as error:
        upload.release()
        if isinstance(error, OSError):
            raise busy("the service cannot store the upload now") from error
        if isinstance(error, Refused):
            await _linger(stream)
        raise
    return upload


def _form_of(request: Request, settings: Settings) -> bytes:
    """Return the boundary of a form by the headers of the request."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
        raise Refused(415, "the body is no multipart form", "Send multipart/form-data, as curl -F does")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused(415, "the body is packed", "Send it without a Content-Encoding")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > settings.max_upload + OVERHEAD:
        raise _too_large(settings)
    return boundary


def _too_large(settings: Settings) -> Refused:
    return Refused(413, f"the upload is larger than {settings.max_upload:,} bytes",
                   "Send less, or let the service's operator raise --max-upload-mb")  # fmt: skip


async def _linger(stream: AsyncIterator[bytes]) -> None:
    """Read on for a while: a client that is still sending would not see the answer."""
    end = time.monotonic() + LINGER

    async def read() -> None:
        async for _ in stream:
            if time.monotonic() > end:
                return

    try:
        await asyncio.wait_for(read(), LINGER)
    except Exception:  # gone, or too slow; the answer is sent in any case
        return


class _Receiver:
    """Takes the parts of a form as the parser meets them."""

    def __init__(self, upload: Upload, settings: Settings) -> None:
        self.upload, self.settings = upload, settings
        self.whole = False
        self._parts = 0
        self._header = bytearray()
        self._value = bytearray()
        self._disposition = b""
        self._text: tuple[str, bytearray] | None = None
        self._file: Path | None = None
        self._waiting: list[tuple[Path, bytearray]] = []
        self._held = 0

    def callbacks(self) -> python_multipart.multipart.MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._open,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    async def flush(self, least: int) -> None:
        """Write what has come, in a thread, once there is enough of it."""
        if self._waiting and self._held >= least:
            waiting, self._waiting, self._held = self._waiting, [], 0
            await to_thread.run_sync(_write, self.upload.folder, waiting)

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > self.settings.max_files + len(TEXTS):
            raise Refused(413, f"the form has more than {self.settings.max_files:,} parts", "Send a series as a zip")
        self._disposition = b""

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _open(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if not name or len(name) > _NAME:
            raise Refused(400, "a part of the form has no name", "Name each part as the modality that it holds")
        if name in TEXTS:
            if name in self.upload.texts:
                raise Refused(400, f"'{name}' is sent twice", "Send it once")
            self.upload.texts[name] = ""
            self._text = (name, bytearray())
            return
        files = self.upload.files.setdefault(name, [])
        path = self.upload.folder / f"{self._parts}"
        # A field without a file, as browsers send it, is an absent modality.
        if not (b"filename" in options and not options[b"filename"]):
            files.append(path)
        self._file = path
        self._waiting.append((path, bytearray()))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._text is not None:
            self._text[1].extend(data[start:end])
            if len(self._text[1]) > MAX_TEXT:
                raise Refused(413, f"'{self._text[0]}' is larger than {MAX_TEXT:,} bytes", "Send less")
        elif self._file is not None:
            if not self._waiting or self._waiting[-1][0] != self._file:
                self._waiting.append((self._file, bytearray()))
            self._waiting[-1][1].extend(data[start:end])
            self._held += end - start

    def _end(self) -> None:
        if self._text is not None:
            name, content = self._text
            try:
                self.upload.texts[name] = content.decode("utf-8")
            except UnicodeDecodeError:
                raise Refused(400, f"'{name}' is no text in UTF-8", "Send it as UTF-8") from None
        self._text = self._file = None

    def _finish(self) -> None:
        self.whole = True


def _write(folder: Path, waiting: list[tuple[Path, bytearray]]) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    for path, content in waiting:
        with path.open("ab") as file:
            file.write(content)
