"""How fast the networks are beside the published one in Keras and beside two ResNet-18, in one run.

    python benchmarks/speed/compare.py --keras KERAS/bin/python [--what predict train attack] [--batch 8] [--size 128]
        [--threads 1] [--rounds 9] [--compiled] [--only WORD] [--out OUT.json]

Every contender is a process of its own. They run one call after the other, round after round, so that whatever else
the machine does meets all alike; a ratio is the median over rounds of a round's times. ``--keras`` is the Python of an
environment with tensorflow-cpu alone; without it the published network is left out and the ratios are to
``mail_reference``, eager. With one thread the clock is the processor's, with more the wall's. Keras and
``mail_reference`` have the same weights, all random, and a difference of their probabilities by more than 1e-3 ends the
run. ``difference`` is the largest of a contender's probabilities to those of its network, eager in fp32; int8 has its
ranges from the same images. ``process MB`` is the most that the process ever held, with what it was made by.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_worker import make_network

from mailnet.cli.output import print_table
from mailnet.files import write_json
from mailnet.nn.counts import count_operations

HERE = Path(__file__).parent
CLASSES = (5, 7)
TOLERANCE = 1e-3


@dataclass
class Contender:
    name: str
    command: list[str]
    keras: bool = False
    process: subprocess.Popen[str] | None = None
    words: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    times: list[dict[str, float]] = field(default_factory=list)

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=HERE
        )
        self.facts = self.said()

    def go(self) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.times.append(self.said())

    def said(self) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                value: dict[str, Any] = json.loads(line)
                return value
            self.words = [*self.words[-20:], line]  # warnings, and what it died of
        raise SystemExit(f"{self.name} ended:\n{''.join(self.words)}")

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def contenders(what: str, case: Path, threads: int, keras: str | None, compiled: bool = False) -> list[Contender]:
    def ours(engine: str, network: str, precision: str) -> Contender:
        command = [sys.executable, "torch_worker.py", what, engine, str(case), "--network", network]
        command += ["--precision", precision, "--threads", str(threads)]
        return Contender(f"{network}, {engine} {precision}", command)

    theirs = [str(keras), "keras_worker.py", what, str(case), "--threads", str(threads)]
    published = [Contender("published in Keras", theirs, keras=True)] if keras else []
    networks = ("mail_reference", "mail", "two_branch_resnet18")
    if what != "predict":
        return [
            *published,
            *(ours("eager", network, precision) for network in networks for precision in ("fp32", "bf16")),
        ]
    engines = [("eager", ("fp32",)), ("onnxruntime", ("fp32", "int8"))]
    if compiled:
        engines.append(("compiled", ("fp32", "bf16")))
    if has_openvino():
        engines.append(("openvino", ("fp32", "bf16", "int8")))
    return [
        *published,
        *(ours(engine, network, p) for network in networks for engine, precisions in engines for p in precisions),
    ]


def has_openvino() -> bool:
    from importlib.util import find_spec

    return find_spec("openvino") is not None


def matrix_speed() -> dict[str, float]:
    """GFLOP/s of one thread in a product of matrices of 2,048: what no network can be faster than."""
    found = {}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a = torch.rand(2048, 2048).to(kind)
        seconds = []
        for _ in range(4):
            begun = time.process_time()
            a @ a
            seconds.append(time.process_time() - begun)
        found[name] = 2e-9 * 2048**3 / min(seconds)
    return found


def make_case(folder: Path, batch: int, size: int) -> Path:
    """Images, labels and weights of ``mail_reference``, all random; batch norms as a training would leave them."""
    torch.manual_seed(0)
    inputs = {name: torch.rand(batch, 3, size, size) for name in ("a", "b")}
    network = make_network("mail_reference", inputs, list(CLASSES))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    arrays: dict[str, Any] = {f"weights.{name}": value.numpy() for name, value in network.state_dict().items()}
    arrays |= {f"input.{name}": x.numpy() for name, x in inputs.items()}
    arrays |= {f"label.t{n}": np.random.default_rng(n).integers(0, k, batch) for n, k in enumerate(CLASSES)}
    file = folder / "case.npz"
    np.savez(file, classes=np.array(CLASSES), **arrays)
    return file


def measure(
    what: str, field_: list[Contender], rounds: int, batch: int, clock: str, peer: str | None = None
) -> list[dict[str, Any]]:
    """A row a contender; how many times as fast as the peer, by default the first, it is."""
    try:
        with ThreadPoolExecutor(2) as pool:  # graphs take long to be made
            list(pool.map(Contender.start, field_))
        check(field_)
        for _ in range(rounds):
            for contender in field_:
                contender.go()
    finally:
        for contender in field_:
            contender.end()
    first = next(c for c in field_ if peer in (None, c.name))
    rows = []
    for contender in field_:
        ratios = [a[clock] / b[clock] for a, b in zip(first.times, contender.times, strict=True)]
        rows.append(
            {
                "what": what,
                "contender": contender.name,
                "ms_a_study": 1000 * statistics.median(t[clock] for t in contender.times) / batch,
                "times_as_fast": statistics.median(ratios),
                "quartiles": statistics.quantiles(ratios, n=4)[::2] if len(ratios) > 1 else None,
                "process_peak_mb": contender.times[-1]["peak_mb"],
                "peer": first.name,
                "difference": contender.facts.get("difference"),
                "same_answers": contender.facts.get("same_answers"),
            }
        )
    return rows


def check(field_: list[Contender]) -> None:
    """Note how far each contender's probabilities are from those of its network, eager in fp32.

    Raises:
        SystemExit: Keras, which has the weights of ``mail_reference``, answers otherwise.
    """
    answers = {c.name: [np.array(task) for task in c.facts.get("probabilities", [])] for c in field_}
    for contender in field_:
        network = "mail_reference" if contender.keras else contender.name.partition(",")[0]
        pairs = list(zip(answers[contender.name], answers.get(f"{network}, eager fp32", []), strict=False))
        if not pairs:
            continue
        contender.facts["difference"] = max(float(np.abs(a - b).max()) for a, b in pairs)
        contender.facts["same_answers"] = float(np.mean([np.mean(a.argmax(1) == b.argmax(1)) for a, b in pairs]))
        if contender.keras and contender.facts["difference"] > TOLERANCE:
            raise SystemExit("Keras and mail_reference do not answer alike; their times say nothing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keras")
    parser.add_argument("--what", nargs="+", choices=["predict", "train", "attack"], default=["predict"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--compiled", action="store_true", help="also torch.compile: a minute a network, or many")
    parser.add_argument("--only", default="", help="contenders whose names hold this")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        case = make_case(Path(folder), asked.batch, asked.size)
        for what in asked.what:
            field_ = [
                c for c in contenders(what, case, asked.threads, asked.keras, asked.compiled) if asked.only in c.name
            ]
            rows += measure(what, field_, asked.rounds, asked.batch, "cpu" if asked.threads == 1 else "wall")
    inputs = {name: torch.rand(1, 3, asked.size, asked.size) for name in ("a", "b")}
    torch.set_num_threads(1)
    peak = matrix_speed()
    macs = {
        name: count_operations(make_network(name, inputs, list(CLASSES))).macs
        for name in ("mail_reference", "mail", "two_branch_resnet18")
    }
    counts = ", ".join(f"{name} {value / 1e9:.3f}" for name, value in macs.items())
    print(
        f"a core's matrix products: fp32 {peak['fp32']:.0f}, bf16 {peak['bf16']:.0f} GFLOP/s; G multiply-adds: {counts}"
    )
    for what in asked.what:
        own = [row for row in rows if row["what"] == what]
        print_table(
            f"{what}: batch {asked.batch}, two images 3 x {asked.size} x {asked.size}, {asked.threads} thread(s)",
            ["", "ms a study", f"times as fast as {own[0]['peer']}", "difference", "same answers", "process MB"],
            [
                [
                    row["contender"],
                    f"{row['ms_a_study']:.2f}",
                    f"{row['times_as_fast']:.2f}",
                    "" if row["difference"] is None else f"{row['difference']:.1e}",
                    "" if row["same_answers"] is None else f"{100 * row['same_answers']:.0f} %",
                    f"{row['process_peak_mb']:.0f}",
                ]
                for row in own
            ],
        )
    if asked.out:
        settings = {name: getattr(asked, name) for name in ("batch", "size", "threads", "rounds")}
        machine = {"machine": platform.machine(), "torch": str(torch.__version__)}
        write_json(asked.out, {**settings, **machine, "macs": macs, "gflops": peak, "rows": rows})


if __name__ == "__main__":
    main()
