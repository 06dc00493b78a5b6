"""A Hub in memory that takes the calls of ``huggingface_hub.HfApi``, and a little one that speaks HTTP."""

from __future__ import annotations

import hashlib
import inspect
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlparse

import huggingface_hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REAL = huggingface_hub.HfApi


class FakeHub:
    """Repositories in memory; every call is one that the real client would take."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.branches: list[str] = []
        self.tokens: list[str | None] = []
        self.calls: list[str] = []
        self.announced: dict[str, int | None] = {}

    def __call__(self, token: str | None = None, **_: Any) -> FakeHub:
        self.tokens.append(token)
        return self

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__(self, name)
        if name.startswith("_") or not hasattr(REAL, name):
            return own

        def call(*arguments: Any, **keywords: Any) -> Any:
            inspect.signature(getattr(REAL, name)).bind(self, *arguments, **keywords)
            self.calls.append(name)
            return own(*arguments, **keywords)

        return call

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        self.repositories.setdefault(repo_id, {})
        self.private.setdefault(repo_id, private)

    def create_branch(self, repo_id: str, *, branch: str, exist_ok: bool) -> None:
        assert exist_ok
        self.branches.append(branch)

    def create_commit(self, repo_id: str, operations: list[Any], *, commit_message: str, revision: str) -> Any:
        for one in operations:
            if isinstance(one, huggingface_hub.CommitOperationDelete):
                del self.repositories[repo_id][one.path_in_repo]
                continue
            self.repositories[repo_id][one.path_in_repo] = Path(one.path_or_fileobj).read_bytes()
        return SimpleNamespace(commit_url=f"https://hub.example/{repo_id}/commit/{revision}")

    def model_info(self, repo_id: str, *, revision: str = "main", files_metadata: bool = False) -> Any:
        files = self.repositories[repo_id]
        siblings = [
            SimpleNamespace(
                rfilename=name,
                size=self.announced.get(name, len(content)),
                lfs=SimpleNamespace(sha256=hashlib.sha256(content).hexdigest())
                if name.endswith(".safetensors")
                else None,
            )
            for name, content in files.items()
        ]
        return SimpleNamespace(private=self.private[repo_id], sha=COMMIT, siblings=siblings)

    def hf_hub_download(self, repo_id: str, filename: str, *, revision: str, local_dir: Path) -> str:
        assert revision == COMMIT
        local_dir.mkdir(parents=True, exist_ok=True)
        (local_dir / filename).write_bytes(self.repositories[repo_id][filename])
        return str(local_dir / filename)


@contextmanager
def serve_hub(repository: str, files: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Yield the address of a server on loopback with one repository, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, body: bool) -> None:
            path = urlparse(self.path).path
            asked.append(path)
            name = path.rpartition("/")[2]
            if path.startswith(f"/api/models/{repository}"):
                siblings = [{"rfilename": one, "size": len(content)} for one, content in files.items()]
                about = {"id": repository, "sha": COMMIT, "private": False, "siblings": siblings}
                self._send(json.dumps(about).encode(), "application/json", body)
            elif path == f"/{repository}/resolve/{COMMIT}/{name}" and name in files:
                self._send(files[name], "application/octet-stream", body)
            else:
                self.send_error(404)

        def _send(self, content: bytes, kind: str, body: bool) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
