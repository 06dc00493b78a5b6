"""Who may ask, what every answer carries, what is logged, what is kept, and how much is taken on at once."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import client, client_of, grey, refusal, run, table
from starlette.testclient import TestClient

from dicom_files import SECRETS, write
from mailnet.deploy.service.admission import Gate, Threads
from mailnet.deploy.service.batching import Batcher
from mailnet.deploy.service.log import Lines
from mailnet.deploy.service.refusal import Refused
from mailnet.deploy.service.server import read_token, serve
from mailnet.deploy.service.settings import Settings
from mailnet.deploy.service.study import asked_of
from mailnet.errors import ConfigError

__all__ = ["client", "run"]

TOKEN = "c4f2a0d19be84e6f8a10"


def run_apart(asked: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in a thread of its own: the browser of the page's tests leaves a loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, asked).result()


@pytest.fixture
def lines() -> Any:
    """The lines that are logged, as text."""
    found: list[str] = []
    handler = logging.Handler()
    handler.setFormatter(Lines())
    handler.emit = lambda record: found.append(handler.format(record))  # type: ignore[method-assign]
    logger = logging.getLogger("mailnet.service")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil.example:8000"])
def test_other_names_are_not_answered(client: TestClient, host: str) -> None:
    refusal(client.get("/v1/models", headers={"host": host}), 421)


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST"])
def test_names_of_this_machine_are(client: TestClient, host: str) -> None:
    assert client.get("/v1/models", headers={"host": host}).status_code == 200


def test_pages_of_other_sites_may_not_ask(client: TestClient) -> None:
    for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        refusal(client.post("/v1/predict", files={"ct": grey()}, headers=headers), 403)
    own = {"origin": "http://localhost", "sec-fetch-site": "same-origin"}
    answer = client.post("/v1/predict", files={"ct": grey()}, headers=own)
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_every_answer_carries_the_headers(client: TestClient) -> None:
    for answer in (
        client.get("/"),
        client.get("/healthz"),
        client.get("/nothing"),
        client.get("/", headers={"host": "x"}),
    ):
        headers = answer.headers
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert len(headers["x-request-id"]) == 16


def test_a_token_is_asked_for(run: Path) -> None:
    with client_of(run, host="0.0.0.0", token=TOKEN) as client:
        for path in ("/v1/models", "/metrics"):
            for given in ("", "Bearer wrong", f"Basic {TOKEN}", "Bearer é"):
                answer = client.get(path, headers={b"authorization": given.encode()})
                refusal(answer, 401)
                assert answer.headers["www-authenticate"] == "Bearer"
            assert client.get(path, headers={"authorization": f"bearer {TOKEN}"}).status_code == 200
        refusal(client.post("/v1/predict", files={"ct": grey()}), 401)
        # The page and what a load balancer asks say nothing of anybody.
        assert client.get("/healthz", headers={"host": "hospital.example"}).status_code == 200
        assert client.get("/openapi.json").json()["components"]["securitySchemes"]


def test_others_are_let_in_with_a_token_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no token"):
        serve({}, Settings(host="0.0.0.0"))
    path = tmp_path / "token"
    for text in ("", "short", "two words of some length", "x" * 15):
        path.write_text(text)
        with pytest.raises(ConfigError, match="holds no token"):
            read_token(path)
    path.write_text(f"{TOKEN}\n")
    assert read_token(path) == TOKEN
    with pytest.raises(ConfigError, match="cannot be read"):
        read_token(tmp_path / "none")


def test_the_page_or_its_absence(
    client: TestClient, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "text/html" in client.get("/").headers["content-type"]
    assert "javascript" in client.get("/main.js").headers["content-type"]
    for path in ("/../app.py", "/%2e%2e/app.py", "/..%2fapp.py"):
        assert client.get(path).status_code == 404
    monkeypatch.setattr("mailnet.deploy.service.app.PAGE", tmp_path)
    with client_of(run) as without:
        refusal(without.get("/"), 404)
        assert without.get("/healthz").status_code == 200


def test_logs_say_nothing_of_a_study(client: TestClient, lines: list[str], tmp_path: Path) -> None:
    path = write(tmp_path / "Quillfeather.dcm", np.zeros((32, 32), np.uint8))
    files = {"ct": (path.name, path.read_bytes())}
    data = {"id": "Zebediah", **table(age=97.25, site="Muddlewick")}
    answer = client.post("/v1/predict?model=made-up&x=PZX7733991", files=files, data=data)
    assert answer.json()["study"]["id"] == "Zebediah"
    client.post("/v1/predict/Quillfeather", files=files)
    client.request("SNORKELFISH", "/v1/predict")
    refusal(client.post("/v1/predict", files={"Quillfeather": path.read_bytes()}, data={"id": "Zebediah"}), 422)
    refusal(client.post("/v1/predict", files=files, data=table(age="Wobblestone")), 422)
    text = "\n".join(lines)
    assert not [word for word in [*SECRETS, "97.25", "made-up", "SNORKELFISH"] if word in text]
    first = json.loads(lines[0])
    assert {"time", "request", "route", "status", "milliseconds", "bytes"} <= set(first)
    assert (first["route"], first["status"]) == ("/v1/predict", 200)
    assert first["request"] == answer.headers["x-request-id"]


def test_a_fault_of_the_service_is_logged_without_values(
    client: TestClient, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Quillfeather")

    monkeypatch.setattr("mailnet.deploy.service.desk.asked_of", fail)
    error = refusal(client.post("/v1/predict", files={"ct": grey()}), 500)
    failed = json.loads(next(line for line in lines if "exception" in line))
    assert failed["exception"] == "RuntimeError"
    assert any("fail" in frame for frame in failed["frames"])
    assert failed["request"] in error["remedy"]
    assert "Quillfeather" not in "".join(lines) + str(error)


def test_nothing_is_kept_unless_asked_for(run: Path, client: TestClient, tmp_path: Path) -> None:
    client.post("/v1/predict", files={"ct": grey()}, data={"id": "a"})
    assert not list(client.app.state.desk._root.iterdir())  # type: ignore[attr-defined]
    with client_of(run, keep=tmp_path / "kept") as keeping:
        answer = keeping.post("/v1/predict", files={"ct": grey()}, data={"id": "a"}).json()
        keeping.post("/v1/preview", files={"ct": grey()})
        (kept,) = (tmp_path / "kept").iterdir()
        assert {**answer, "time": ""} == {**json.loads(kept.read_text()), "time": ""}
        ct = write(tmp_path / "ct.dcm", np.zeros((32, 32), np.uint8)).read_bytes()
        assert keeping.post("/v1/dicom?heatmap=none", files={"ct": ct}, data={"id": "b"}).status_code == 200
    texts = [json.loads(path.read_text()) for path in (tmp_path / "kept").iterdir()]
    assert sorted(text["study"]["id"] for text in texts) == ["a", "b"]
    assert all(set(text) == {"time", *answer} for text in texts)
    assert (tmp_path / "kept").stat().st_mode & 0o077 == 0


def test_who_comes_when_it_is_full_is_told_to_come_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow(*arguments: Any, **options: Any) -> Any:
        entered.set()
        leave.wait(10)
        return asked_of(*arguments, **options)

    monkeypatch.setattr("mailnet.deploy.service.desk.asked_of", slow)
    with client_of(run, queue=1) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/v1/predict", files={"ct": grey()})
        assert entered.wait(10)
        answer = client.post("/v1/predict", files={"ct": grey()})
        leave.set()
        assert first.result().status_code == 200
        assert answer.headers["retry-after"] == "1"
        refusal(answer, 503)
        assert client.post("/v1/predict", files={"ct": grey()}).status_code == 200


def test_what_takes_too_long_is_given_up(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave = threading.Event()
    monkeypatch.setattr("mailnet.deploy.service.desk.asked_of", lambda *_, **__: leave.wait(10))
    with client_of(run, timeout=0.2) as client:
        refusal(client.post("/v1/predict", files={"ct": grey()}), 503)
        desk = client.app.state.desk  # type: ignore[attr-defined]
        assert len(list(desk._root.iterdir())) == 1  # the thread still reads it
        leave.set()
        for _ in range(100):
            if not list(desk._root.iterdir()):
                break
            threading.Event().wait(0.05)
        assert not list(desk._root.iterdir())
        assert desk.gate.taken == 0


def test_the_disk_holds_a_few_of_the_largest_uploads() -> None:
    gate = Gate(10, 100)
    with gate.enter() as store:
        store(80)
        with gate.enter() as other, pytest.raises(Refused, match="no room"):
            other(30)
        assert (gate.taken, gate.stored) == (1, 80)
    assert (gate.taken, gate.stored) == (0, 0)


def test_batches_are_what_waits_and_an_error_belongs_to_one() -> None:
    seen: list[int] = []
    first = threading.Event()

    def answer(items: Sequence[int]) -> list[int | Exception]:
        first.wait(5)
        if any(item == 13 for item in items):
            raise ValueError("13")
        return [ValueError("7") if item == 7 else item * 2 for item in items]

    async def ask() -> list[Any]:
        batcher: Batcher[int, int] = Batcher(answer, 8, seen.append)
        tasks = [asyncio.create_task(batcher.ask(number)) for number in range(20)]
        await asyncio.sleep(0.05)
        tasks[19].cancel()
        first.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        batcher.close()
        return found

    found = run_apart(ask())
    assert [one for one in found if isinstance(one, int)] == [2 * k for k in range(19) if k not in (7, 13)]
    assert str(found[7]) == "7"
    assert str(found[13]) == "13"
    assert isinstance(found[19], asyncio.CancelledError)
    assert seen == [8, 8, 3]


def test_who_gives_up_leaves_a_thread_its_place() -> None:
    leave = threading.Event()

    async def wait(threads: Threads, function: Callable[[], object], seconds: float) -> object:
        return await asyncio.wait_for(threads.run(function), seconds)

    async def ask() -> None:
        threads = Threads(1)
        with pytest.raises(asyncio.TimeoutError):
            await wait(threads, leave.wait, 0.05)
        with pytest.raises(asyncio.TimeoutError):
            await wait(threads, lambda: 1, 0.05)
        leave.set()
        assert await wait(threads, lambda: 1, 5) == 1

    run_apart(ask())
