"""How many requests a service answers, how fast, whether every answer is right, and whether its memory stays flat.

    python benchmarks/service.py MODEL [--study RUN/study.yaml] [--clients 200] [--seconds 60] [--studies 48]
        [--data-root DATA] [--json OUT]

MODEL is a run, or with --study an exported folder, which is then served without torch. Starts ``mailnet serve MODEL``
on a free port of this machine. So many clients each send one test study after the other over a connection of their own,
now and then without one of its modalities, and every answer is compared with what the model's ``predict`` says of that
study: probabilities to 1e-5, sets exactly. Client and server share the machine, so the throughput is that of a server
that has less than all of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mailnet.bundle import StudyPredictor
from mailnet.cli.output import print_table
from mailnet.data.archives import read_bytes
from mailnet.data.config import PixelConfig, load_config
from mailnet.data.manifest import load_manifest
from mailnet.deploy.runtime import load
from mailnet.files import write_json

BOUNDARY = "e7a1f0b2"
TOLERANCE = 1e-5
PROGRAM = "from mailnet.cli import main; main()"


class Study:
    """A request as bytes, and the answer that it has to get."""

    def __init__(self, predictor: StudyPredictor, row: Mapping[str, Any], locations: Mapping[str, str]) -> None:
        fields = [(name, f'; filename="{name}"', read_bytes(place)) for name, place in locations.items()]
        if row:
            fields.append(("table", "", json.dumps(row).encode()))
        body = b"".join(
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"
            for name, more, content in fields
        )
        body += f"--{BOUNDARY}--\r\n".encode()
        head = (
            f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
        )
        self.request = head.encode() + body
        columns = {
            name: section.column or name
            for name, section in predictor.facts.preprocessing.items()
            if isinstance(section, PixelConfig)
        }
        images = {columns[name]: place for name, place in locations.items()}
        self.expected = predictor.predict({**row, **images}).as_dicts()[0]["tasks"]

    def is_answered_by(self, body: bytes) -> bool:
        """Whether an answer is the offline prediction."""
        found = json.loads(body)["study"]["tasks"]
        return set(found) == set(self.expected) and all(
            found[task].get("set") == said.get("set")
            and np.allclose(
                [found[task]["probabilities"][name] for name in said["probabilities"]],
                list(said["probabilities"].values()),
                rtol=0,
                atol=TOLERANCE,
            )
            for task, said in self.expected.items()
        )


def studies_of(study: Path, predictor: StudyPredictor, number: int, data_root: Path | None) -> list[Study]:
    """Return so many test studies of a study.yaml, each once whole and, if it has several, once without a modality."""
    frame = load_manifest(load_config(study, data_root=data_root)).frame
    found: list[Study] = []
    for _, row in frame[frame["split"] == "test"].head(number).iterrows():
        cells = {
            column: value.item() if hasattr(value, "item") else value
            for state in predictor.tables.values()
            for column in state.columns
            if (value := row[f"raw:{column}"]) not in ("", None) and value == value  # NaN is unlike itself
        }
        images = {
            name: str(row[f"path:{name}"])
            for name, section in predictor.facts.preprocessing.items()
            if isinstance(section, PixelConfig) and row[f"has:{name}"]
        }
        found.append(Study(predictor, cells, images))
        if len(images) > 1 or (images and cells):
            images.pop(list(images)[len(found) % len(images)])
            found.append(Study(predictor, cells, images))
    return found


@contextmanager
def service(model: Path) -> Iterator[int]:
    """Run the service; yields its port."""
    with tempfile.NamedTemporaryFile("w") as file:
        log = Path(file.name)
        command = [sys.executable, "-c", PROGRAM, "serve", str(model), "--port", "0", "--queue", "1024"]
        process = subprocess.Popen(command, stderr=file)
        try:
            while not (found := re.search(r"http://[^ ]+:(\d+)", log.read_text())):
                if process.poll() is not None:
                    raise SystemExit(log.read_text())
                time.sleep(0.1)
            yield int(found[1])
        finally:
            process.terminate()
            process.wait()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, bytes]:
    """Send a request on an open connection and return status and body."""
    writer.write(request)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
    body = await reader.readexactly(int(length[1]) if length else 0)
    return int(head.split(" ", 2)[1]), body


async def metrics(port: int) -> dict[str, float]:
    """Return the service's own counters."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    _, body = await ask(reader, writer, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    writer.close()
    lines = [line.rpartition(" ") for line in body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


async def client(
    port: int, studies: list[Study], first: int, end: float, taken: list[float], said: Counter[str]
) -> None:
    """Ask one study after the other until the time is over."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = first
    while time.perf_counter() < end:
        study = studies[number % len(studies)]
        start = time.perf_counter()
        try:
            status, body = await ask(reader, writer, study.request)
        except (OSError, EOFError):
            said["lost"] += 1
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            continue
        taken.append(time.perf_counter() - start)
        said[str(status) if status != 200 else "right" if study.is_answered_by(body) else "wrong"] += 1
        number += 1
    writer.close()


async def load_for(port: int, studies: list[Study], clients: int, seconds: float) -> tuple[list[float], Counter[str]]:
    """Let clients ask for a time; return seconds of each answer, and how many were what."""
    taken: list[float] = []
    said: Counter[str] = Counter()
    end = time.perf_counter() + seconds
    await asyncio.gather(*(client(port, studies, 7 * k, end, taken, said) for k in range(clients)))
    return taken, said


def measure(port: int, studies: list[Study], clients: int, seconds: float) -> dict[str, Any]:
    """Warm the service up, load it, and return what was seen."""
    asyncio.run(load_for(port, studies, clients, min(5.0, seconds)))
    before = asyncio.run(metrics(port))
    start = time.perf_counter()
    taken, said = asyncio.run(load_for(port, studies, clients, seconds))
    wall = time.perf_counter() - start
    after = asyncio.run(metrics(port))
    count, total = (
        sum(after[name] - before.get(name, 0) for name in after if name.startswith(f"mailnet_batch_studies_{part}{{"))
        for part in ("count", "sum")
    )
    cpu = after["process_cpu_seconds_total"] - before["process_cpu_seconds_total"]
    quantiles = np.quantile(taken, [0.5, 0.95, 0.99]) * 1000
    return {
        "clients": clients,
        "seconds": round(wall, 1),
        "answers": dict(said),
        "per_second": round(len(taken) / wall, 1),
        "milliseconds": {name: round(float(q), 1) for name, q in zip(("p50", "p95", "p99"), quantiles, strict=True)},
        "server_cpu_ms_an_answer": round(1000 * cpu / max(len(taken), 1), 2),
        "studies_a_batch": round(total / max(count, 1), 1),
        "resident_mb": [round(one["process_resident_memory_bytes"] / 2**20, 1) for one in (before, after)],
        "left": {name: after[f"mailnet_{name}"] for name in ("requests_in_progress", "stored_bytes")},
    }


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--study", type=Path, help="Its study.yaml; default the one in the run.")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--studies", type=int, default=48)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    study = options.study or options.model / "study.yaml"
    studies = studies_of(study, load(options.model), options.studies, options.data_root)
    with service(options.model) as port:
        result = measure(port, studies, options.clients, options.seconds)
    result |= {"model": options.model.name, "studies": len(studies)}
    if options.json is not None:
        write_json(options.json, result)
    print_table("Service", ["", "value"], [[key, json.dumps(value)] for key, value in result.items()])
    if set(result["answers"]) != {"right"}:
        raise SystemExit("some answers were lost or wrong")


if __name__ == "__main__":
    main()
