"""The service as a process of its own: asked over a socket, stopped under load, and by all that OpenAPI allows."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
import uvicorn
from exported_folder import write_exported
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from served import colour, grey, run, table

from factory import Command
from mailnet.deploy.runtime import load
from mailnet.deploy.service.app import create_app
from mailnet.deploy.service.loading import load_models
from mailnet.deploy.service.settings import Settings

__all__ = ["run"]

SERVE = "from mailnet.cli import main; main()"
HALF = (
    b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b'Content-Length: 5000\r\n\r\n--b\r\nContent-Disposition: form-data; name="ct"\r\n\r\nx'
)


@contextmanager
def process(run: Path, log: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``mailnet serve`` of a run on a free port, and its address; killed at the end where it still runs."""
    program = [
        sys.executable,
        "-c",
        "from mailnet.cli import main; main()",
        "serve",
        str(run),
        "--port",
        "0",
        "--device",
        "cpu",
        *options,
    ]
    with log.open("w") as file:
        served = subprocess.Popen(program, stderr=file, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        for _ in range(600):
            if "http://" in (text := log.read_text()):
                break
            assert served.poll() is None, text
            time.sleep(0.1)
        yield served, next(word for word in text.split() if word.startswith("http://"))
    finally:
        if served.poll() is None:
            served.kill()
        served.wait()


def events(log: Path) -> list[dict[str, Any]]:
    """The lines of JSON in a log."""
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


@pytest.mark.parametrize("exported", [False, True])
def test_a_stop_under_load_loses_no_accepted_request(run: Path, tmp_path: Path, exported: bool) -> None:
    log = tmp_path / "log"
    model = write_exported(run, tmp_path / "exported") if exported else run
    (tmp_path / "ct.png").write_bytes(grey(1))
    expected = load(model, "cpu").predict({"ct": str(tmp_path / "ct.png"), "age": 50}).as_dicts()[0]["tasks"]
    with process(model, log) as (served, address):
        url = f"{address}/v1/predict"

        def ask(_: int) -> list[dict[str, Any]]:
            found = []
            try:
                for _ in range(50):
                    answer = httpx.post(url, files={"ct": grey(1)}, data=table(age=50), timeout=30)
                    assert answer.status_code == 200
                    found.append(answer.json())
            except httpx.TransportError:  # no longer accepted
                pass
            return found

        with ThreadPoolExecutor(8) as pool:
            clients = [pool.submit(ask, number) for number in range(8)]
            while sum(one["event"] == "request" for one in events(log)) < 16:
                time.sleep(0.02)
            served.send_signal(signal.SIGTERM)
            answers = [answer for client in clients for answer in client.result()]
        assert served.wait(30) == 0
    logged = [one for one in events(log) if one["event"] == "request"]
    assert 16 <= len(answers) < 400
    # Whatever the service counts as asked was answered, and the answer has arrived whole.
    assert {one["status"] for one in logged} == {200}
    assert len(logged) == len(answers)
    assert events(log)[-1]["event"] == "stopped"
    for answer in answers:
        for task, said in expected.items():
            assert answer["study"]["tasks"][task]["probabilities"] == pytest.approx(said["probabilities"], abs=2e-6)


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    """The address of a service with small limits, that runs in a thread."""
    chosen = Settings(max_upload=2**20, timeout=20)
    config = uvicorn.Config(create_app(load_models([run], chosen, "cpu"), chosen), log_config=None, access_log=False)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize(
    ("path", "method"),
    [("/healthz", "GET"), ("/metrics", "GET"), ("/v1/models", "GET"),
     ("/v1/predict", "POST"), ("/v1/explain", "POST"), ("/v1/preview", "POST"), ("/v1/dicom", "POST")],
)  # fmt: skip
def test_openapi_holds_and_nothing_fails(address: str, path: str, method: str) -> None:
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(schema[path][method].as_strategy())
    def holds(case: Any) -> None:
        # Bytes that are made up are no image, so a form that fits the schema may still be refused.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    holds()


def test_an_upload_beyond_the_limit_is_told_so_while_it_is_sent(address: str) -> None:
    for size in (2**21, 2**26):
        answer = httpx.post(f"{address}/v1/predict", files={"ct": bytes(size)}, timeout=30)
        assert answer.status_code == 413
        assert "1,048,576 bytes" in answer.json()["error"]["message"]


def test_a_client_that_goes_away_leaves_nothing(address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as half:
        half.sendall(HALF)
    for _ in range(100):
        text = httpx.get(f"{address}/metrics").text
        if "mailnet_requests_in_progress 0.0" in text and 'status="499"' in text:
            break
        time.sleep(0.05)
    assert "mailnet_stored_bytes 0.0" in text
    assert 'mailnet_requests_total{route="/v1/predict",status="499"} 1.0' in text
    assert httpx.post(f"{address}/v1/predict", files={"photo": colour()}).status_code == 200


def test_a_model_that_cannot_be_served_is_told_before_anything_listens(
    mailnet: Command, run: Path, tmp_path: Path, address: str
) -> None:
    status, _, text = mailnet("serve", tmp_path)
    assert (status, "holds no bundle" in text) == (2, True)
    status, _, text = mailnet("serve", run, run)
    assert (status, "two models are called 'made-up'" in text) == (2, True)
    port = address.rpartition(":")[2]
    status, _, text = mailnet("serve", run, "--port", port)
    assert (status, "cannot listen on" in text) == (2, True)
