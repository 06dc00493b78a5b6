"""The files of an export: one of each precision, verified and measured beside the original."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

import mailnet
from mailnet.bundle import Predictor, find_bundle, read_bundle
from mailnet.bundle.draws import AVERAGED
from mailnet.bundle.weights import WEIGHTS, weights_digest
from mailnet.data.progress import Advance
from mailnet.deploy.export import fold, half, measure, onnx_file, program, quantise
from mailnet.deploy.export.program import Exported
from mailnet.deploy.export.studies import Answer, Studies, answer_of_program, original_passes
from mailnet.deploy.export.verify import verify
from mailnet.deploy.layout import FORMAT
from mailnet.nn.noise import NoiseMode


@dataclass(frozen=True)
class Part:
    """A file of one precision.

    Args:
        file: It.
        open: From a number of threads, 0 for all, to what answers.
        facts: Its own part of ``export.json``.
    """

    file: Path
    open: Callable[[int], Answer]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """An export.

    Args:
        kind: ``onnx`` or ``torch``.
        precisions: Those wanted, in the order of the table.
        exported: The graph.
        predictor: The original.
        run: Where it lies.
        val: Studies that verify, and choose how to quantise.
        measured: Studies that accuracy is measured on.
    """

    kind: str
    precisions: list[str]
    exported: Exported
    predictor: Predictor
    run: Path
    val: Studies
    measured: Studies

    def make(self, folder: Path, advance: Advance) -> dict[str, Part]:
        """Write and verify a file of each precision, of fp32 in any case, since the others are made of it."""
        noise, bundle = self.exported.noise, self.predictor.bundle
        passes = original_passes(read_bundle(self.run), "off") if noise == "off" else self.predictor.passes
        parts: dict[str, Part] = {}
        for name in ["fp32", *(one for one in self.precisions if one != "fp32")]:
            file = folder / name / (onnx_file.FILE if self.kind == "onnx" else program.FILE)
            file.parent.mkdir()
            more = self._write(name, file, parts, advance)
            advance(1)
            part = Part(file, self._opener(file), {})
            checked = verify(part.open(0), passes, self.val, bundle, exact=name == "fp32" and noise != "sample",
                             sampled=noise == "sample")  # fmt: skip
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            part.facts.update(file=file.name, sha256=digest, bytes=file.stat().st_size, verification=checked, **more)
            parts[name] = part
            advance(1)
        return parts

    def _write(self, name: str, file: Path, parts: Mapping[str, Part], advance: Advance) -> dict[str, Any]:
        if self.kind == "torch":
            units = half.bf16_units()
            with program.quiet():
                graph = copy.deepcopy(self.exported.graph)
            fold.lay_out(graph)
            if name == "bf16":
                half.halve_graph(graph)
            program.write_program(file, self.exported.program(graph))
            return {"note": _emulated(units)} if name == "bf16" else {}
        if name == "fp32":
            onnx_file.write_onnx(file, self.exported)
            return {}
        source = parts["fp32"].file
        if name == "bf16":
            half.halve_onnx(source, file)
            return {"note": "bf16 weights, computed in float32: onnxruntime has no bf16 convolutions on CPUs"}
        return {"quantisation": quantise.quantise(source, file, self.val, advance)}

    def _opener(self, file: Path) -> Callable[[int], Answer]:
        if self.kind == "onnx":
            return lambda threads: onnx_file.Session(file, threads).run
        module = program.read_program(file)
        return lambda threads: answer_of_program(module, list(self.exported.bundle.modalities))

    def table(self, parts: Mapping[str, Part], rounds: Mapping[int, int]) -> list[dict[str, Any]]:
        """Return one row a model, the original first."""
        shown = {name: parts[name] for name in self.precisions}
        bundle, passes = self.predictor.bundle, self.predictor.passes
        times = measure.latencies({name: part.open for name, part in shown.items()}, passes, self.measured, rounds)
        weights = find_bundle(self.run) / WEIGHTS
        before = measure.original_accuracy(self.measured, passes, bundle)
        on = {"split": self.measured.split, "n": len(self.measured)}
        rows = [{"model": "original", "bytes": weights.stat().st_size, **times["original"], **on, "tasks": before}]
        for name, part in shown.items():
            answers = self.measured.ask(part.open(0), np.arange(len(self.measured)))
            after = measure.accuracy(self.measured, answers)
            row = {"model": name, "bytes": part.facts["bytes"], **times[name], **on, "tasks": after}
            rows.append({**row, "loss": measure.loss(before, after)})
        return rows

    def facts(self, table: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return what the files have in common."""
        exported, bundle = self.exported, self.exported.bundle
        return {
            "format": FORMAT,
            "mailnet": mailnet.__version__,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "runtime": self.kind,
            "opset": onnx_file.OPSET if self.kind == "onnx" else None,
            "source": {"weights": weights_digest(self.run), "study": bundle.study, "model": bundle.model_name},
            "noise": noise_facts(exported.noise),
            "absence": bool(exported.modalities),
            "inputs": exported.names.inputs,
            "outputs": exported.names.outputs,
        }


def noise_facts(noise: NoiseMode | None) -> dict[str, Any] | None:
    """Return how a random network's numbers were resolved, None of others."""
    if noise is None:
        return None
    draws = {"mean": AVERAGED, "off": 0, "sample": 1}[noise]
    return {"mode": noise, "draws": draws, "seed": 0 if noise == "mean" else None}


def _emulated(units: str | None) -> str:
    return f"bf16 computed by {units}" if units else "this processor has no bf16 units: computed there it is slower"
