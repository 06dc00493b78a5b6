"""A small service that answers as /v1 promises, without a network: what it says is made up, what it shows is real."""

from __future__ import annotations

import base64
import io
import json
import mimetypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pydicom
from page_answers import MODELS, prediction
from PIL import Image, UnidentifiedImageError

POLICY = "default-src 'self'"


@dataclass
class Asked:
    """A request: its path, its query, and what its form holds: name -> values, of files their bytes."""

    path: str
    query: dict[str, str]
    form: dict[str, list[Any]] = field(default_factory=dict)


@dataclass
class Service:
    """A running service: where it is, what it was asked, and the token that it wants, if any."""

    address: str
    asked: list[Asked] = field(default_factory=list)
    token: str | None = None

    def last(self, path: str) -> Asked:
        """Return the last request of a path."""
        return next(one for one in reversed(self.asked) if one.path == path)


class Refused(Exception):
    """What a client sent is wrong: message and remedy."""


@contextmanager
def serve() -> Iterator[Service]:
    """Serve the page and the answers on a free port of loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.service = Service(f"http://127.0.0.1:{server.server_port}/")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.service  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body of an answer in one packet

    def log_message(self, *_: Any) -> None:
        """Be quiet."""

    def do_GET(self) -> None:
        """Give the models, or a file of the page."""
        path = urlsplit(self.path).path
        if path in ("/v1/models", "/openapi.json"):
            return self._answer(Asked(path, {}))
        name = path.removeprefix("/") or "index.html"
        file = resources.files("mailnet.deploy.service") / "page" / name
        if "/" in name or not file.is_file():
            return self._send(404, b"{}", "application/json")
        kind = "text/javascript" if name.endswith(".js") else mimetypes.guess_type(name)[0] or "text/plain"
        return self._send(200, file.read_bytes(), kind)

    def do_POST(self) -> None:
        """Answer a study."""
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        form: dict[str, list[Any]] = {}
        for part in message_from_bytes(head + body).walk():
            name = part.get_param("name", header="content-disposition")
            if isinstance(name, str):
                content = part.get_payload(decode=True)
                assert isinstance(content, bytes)
                form.setdefault(name, []).append(content if part.get_filename() else content.decode())
        self._answer(Asked(url.path, {key: values[0] for key, values in parse_qs(url.query).items()}, form))

    def _answer(self, asked: Asked) -> None:
        service: Service = self.server.service  # type: ignore[attr-defined]
        service.asked.append(asked)
        open_to_all = asked.path == "/openapi.json"
        if service.token is not None and not open_to_all and self.headers["Authorization"] != f"Bearer {service.token}":
            return self._json(401, {"error": {"message": "A token is needed", "remedy": "Send it"}})
        try:
            answer = ANSWERS[asked.path](asked)
            return self._send(200, answer, "application/zip") if isinstance(answer, bytes) else self._json(200, answer)
        except Refused as error:
            message, remedy = error.args
            return self._json(400, {"error": {"message": message, "remedy": remedy}})

    def _json(self, status: int, values: Any) -> None:
        self._send(status, json.dumps(values).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), "Content-Security-Policy": POLICY}
        for name, value in {**headers, "X-Content-Type-Options": "nosniff"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _images(asked: Asked) -> dict[str, np.ndarray]:
    model = next(one for one in MODELS if one["name"] == asked.query["model"])
    kinds = {name: spec["kind"] for name, spec in model["modalities"].items()}
    return {name: _read(name, files) for name, files in asked.form.items() if kinds.get(name) in ("image", "volume")}


def _read(name: str, files: list[bytes]) -> np.ndarray:
    if all(content[128:132] == b"DICM" for content in files):
        planes = [pydicom.dcmread(io.BytesIO(content)) for content in files]
        planes.sort(key=lambda one: int(one.InstanceNumber))
        return np.stack([one.pixel_array for one in planes]) if len(planes) > 1 else planes[0].pixel_array
    try:
        return np.asarray(Image.open(io.BytesIO(files[0])))
    except UnidentifiedImageError as error:
        raise Refused(f"{name}: is no image that can be read", "Send DICOM, PNG, JPEG or TIFF") from error


def _preview(asked: Asked) -> dict[str, Any]:
    return {"images": {name: _shown(values) for name, values in _images(asked).items()}}


def _shown(values: np.ndarray) -> dict[str, Any]:
    colour = values.ndim == 3 and values.shape[-1] == 3
    if values.dtype == np.uint16:  # as CT, seen through a window that is far too wide
        told: dict[str, Any] = {"window": [-32768, 32767], "rescale": [1, -1024], "unit": "HU", "aspect": 1.0}
    else:
        told = {"window": [int(values.min()), int(values.max())]}
    return {
        **told,
        "shape": list(values.shape[:-1] if colour else values.shape),
        "channels": 3 if colour else 1,
        "bits": 8 * values.dtype.itemsize,
        "values": base64.b64encode(values.astype(values.dtype.newbyteorder("<")).tobytes()).decode(),
    }


def _predict(asked: Asked) -> dict[str, Any]:
    table = json.loads(asked.form["table"][0]) if "table" in asked.form else {}
    tables = {"breast": "clinical", "omics": "rna"}
    given = set(_images(asked)) | ({tables[asked.query["model"]]} if table else set())
    return prediction(asked.query["model"], given, asked.form.get("id", ["study"])[0], "without" in asked.query)


def _explain(asked: Asked) -> dict[str, Any]:
    rising = asked.query["method"] != "occlusion"  # which tells for and against apart
    low, high = (0.0, 2.4) if rising else (-2.4, 2.4)
    maps = {}
    for number, (name, values) in enumerate(_images(asked).items()):
        shape = (8, 32, 32) if values.ndim == 3 and values.shape[-1] != 3 else (32, 32)
        places = np.stack(np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij"))
        heat = np.exp(-8 * ((places - 0.25 + 0.2 * number) ** 2).sum(0)) * (1 - 0.4 * number)
        if not rising:
            heat = heat - 0.8 * np.exp(-12 * ((places + 0.4) ** 2).sum(0))
        levels = ((2.4 * heat - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(levels.reshape(-1, shape[-1])).save(stream, "png")
        picture = base64.b64encode(stream.getvalue()).decode()
        maps[name] = {"shape": list(shape), "low": low, "high": high, "png": picture}
    keys = ("model", "task", "target", "method")
    shares = {name: 1.3 - 1.7 * number for number, name in enumerate([*maps, "clinical"])}
    return {**{key: asked.query[key] for key in keys}, "shares": shares, "maps": maps}


ANSWERS: dict[str, Any] = {
    "/openapi.json": lambda _: {"paths": {"/v1/dicom": {}}},
    "/v1/models": lambda _: {"models": MODELS},
    "/v1/dicom": lambda asked: b"a zip of " + b", ".join(sorted(name.encode() for name in asked.form)),
    "/v1/preview": _preview,
    "/v1/predict": _predict,
    "/v1/explain": _explain,
}
