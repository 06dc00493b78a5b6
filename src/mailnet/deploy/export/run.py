"""From a run to exported folders, verified and measured."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np

import mailnet
from mailnet.bundle import Predictor, find_bundle, load, read_bundle
from mailnet.bundle.draws import AVERAGED
from mailnet.bundle.weights import WEIGHTS, weights_digest
from mailnet.data.progress import Advance, progress
from mailnet.deploy.export import half, measure, onnx_file, program, quantise
from mailnet.deploy.export.folder import publish, refuse_folder, workshop
from mailnet.deploy.export.program import Exported, trace
from mailnet.deploy.export.studies import Answer, Studies, answer_of_program, original_passes
from mailnet.deploy.export.verify import verify
from mailnet.deploy.layout import FACTS, FORMAT
from mailnet.errors import ConfigError, RunError
from mailnet.evaluation.inputs import load_studies
from mailnet.nn.noise import NOISE_MODES, NoiseMode

Format: TypeAlias = Literal["onnx", "torch"]
Precision: TypeAlias = Literal["fp32", "int8", "bf16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
FORMATS: tuple[str, ...] = get_args(Format)
ALLOWED_LOSS = 0.005  # of balanced accuracy, of an int8 model
STEPS = {"fp32": 3, "bf16": 2, "int8": 2 + len(quantise.RECIPES)}


def export_run(
    run: str | Path,
    out: str | Path | None = None,
    *,
    kind: str = "onnx",
    precisions: Sequence[str] = ("fp32",),
    noise: str | None = None,
    study: str | Path | None = None,
    data_root: str | Path | None = None,
    skip_bad: bool = False,
    cache: str | Path | None = None,
    accept_loss: bool = False,
    rounds: Mapping[int, int] = measure.ROUNDS,
) -> dict[str, Any]:
    """Export a run, verify that each file answers as the run does, and measure them beside it.

    Args:
        run: The run; with ``study`` a bundle will do.
        out: Folder for the export, of several precisions one folder each in it; default ``export`` in the run.
        kind: ``onnx`` (``model.onnx``) or ``torch`` (``model.pt2``).
        precisions: ``fp32``, ``bf16``, and for ONNX ``int8``.
        noise: Of a random network: ``mean`` (default; the draws of ``Predictor`` as constants, so that the answers are
            the same), ``off`` or ``sample`` (drawn anew at each call). None of other networks.
        study: Another study.yaml whose validation and test studies are used.
        data_root: Where the images lie now; default as the study.yaml says.
        skip_bad: Leave studies with an unreadable image out.
        cache: Folder of decoded images.
        accept_loss: Also write an int8 model that loses more than half a point of balanced accuracy.
        rounds: Studies at a time -> how often the time is measured.

    Returns:
        ``folders`` (precision -> what was written) and what ``export.json`` holds of all of them: ``table``,
        ``source``, ``noise``, ``verification`` (precision -> what was compared).

    Raises:
        ConfigError: A choice that there is not, or a folder that holds something else.
        RunError: The run cannot be read or exported, a file does not answer as the run does, or int8 loses too much;
            what of it is written then, is said.
        DataError: The studies cannot be read.
    """
    chosen = _chosen(kind, precisions, noise)
    run = Path(run)
    bundle_folder = find_bundle(run)
    folder = (run if bundle_folder != run else run.parent) / "export" if out is None else Path(out)
    refuse_folder(folder, run)
    predictor = load(run, "cpu", raw=True)
    exported = trace(read_bundle(run), cast("NoiseMode | None", noise))
    val, test = (
        _studies(predictor, exported, run, split, study, data_root, skip_bad=skip_bad, cache=cache)
        for split in ("val", "test")
    )
    if not len(val):
        raise ConfigError("there are no validation studies to verify an export on", remedy="Give a --study with some")
    job = _Job(kind, chosen, exported, predictor, run, val, test if len(test) else val)
    with (
        workshop(folder) as made,
        progress("Exporting", 1 + sum(STEPS[name] for name in {"fp32", *chosen})) as advance,
    ):
        parts = job.make(made, advance)
        table = job.table(parts, rounds)
        advance(1)
        result = job.facts(table)
        refused = _refused(table, accept_loss)
        folders = {}
        for name in chosen:
            if name in refused:
                continue
            folders[name] = folder / name if len(chosen) > 1 else folder
            facts = result | {"kind": name, **parts[name].facts, "table": table}
            if len(chosen) > 1 and (folder / FACTS).is_file():  # an earlier export of one precision
                workshop_clear(folder)
            publish(parts[name].file.parent, bundle_folder, folders[name], facts)
    if refused:
        written = f"; written were {', '.join(folders)}" if folders else ""
        raise RunError(
            f"int8 loses {100 * refused['int8']:.2f} points of balanced accuracy on the {job.measured.split} studies, "
            f"more than {100 * ALLOWED_LOSS:g}{written}",
            file=folder,
            remedy="Give --accept-loss to have it all the same, or take fp32 or bf16",
        )
    found = {name: part.facts["verification"] for name, part in parts.items() if name in chosen}
    return {"folders": {name: str(path) for name, path in folders.items()}, **result, "verification": found,
            "table": table}  # fmt: skip


@dataclass(frozen=True)
class _Part:
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
class _Job:
    kind: str
    precisions: list[str]
    exported: Exported
    predictor: Predictor
    run: Path
    val: Studies
    measured: Studies

    def make(self, folder: Path, advance: Advance) -> dict[str, _Part]:
        """Write and verify a file of each precision, of fp32 in any case, since the others are made of it."""
        noise, bundle = self.exported.noise, self.predictor.bundle
        passes = original_passes(read_bundle(self.run), "off") if noise == "off" else self.predictor.passes
        parts: dict[str, _Part] = {}
        for name in ["fp32", *(one for one in self.precisions if one != "fp32")]:
            file = folder / name / (onnx_file.FILE if self.kind == "onnx" else program.FILE)
            file.parent.mkdir()
            more = self._write(name, file, parts, advance)
            advance(1)
            part = _Part(file, self._opener(file), {})
            checked = verify(part.open(0), passes, self.val, bundle, exact=name == "fp32" and noise != "sample",
                             sampled=noise == "sample")  # fmt: skip
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            part.facts.update(file=file.name, sha256=digest, bytes=file.stat().st_size, verification=checked, **more)
            parts[name] = part
            advance(1)
        return parts

    def _write(self, name: str, file: Path, parts: Mapping[str, _Part], advance: Advance) -> dict[str, Any]:
        if self.kind == "torch":
            units = half.bf16_units()
            graph = copy.deepcopy(self.exported.graph)
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

    def table(self, parts: Mapping[str, _Part], rounds: Mapping[int, int]) -> list[dict[str, Any]]:
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


def workshop_clear(folder: Path) -> None:
    """Delete the files of an earlier export, so that folders of precisions can lie in its place."""
    for file in folder.iterdir():
        if file.is_file():
            file.unlink()


def _chosen(kind: str, precisions: Sequence[str], noise: str | None) -> list[str]:
    """Return the precisions in the order of the table, each once; refuse what there is not."""
    for value, values, what in ((kind, FORMATS, "format"), *((one, PRECISIONS, "precision") for one in precisions)):
        if value not in values:
            raise ConfigError(f"'{value}' is no {what}", remedy=f"Choose {', '.join(values)}")
    if noise is not None and noise not in NOISE_MODES:
        raise ConfigError(f"'{noise}' is no noise mode", remedy=f"Choose {', '.join(NOISE_MODES)}")
    if kind == "torch" and "int8" in precisions:
        raise ConfigError("int8 is made for onnxruntime only", remedy="Give --format onnx, or --precision bf16")
    needed = ("onnx", "onnxscript", "onnxruntime") if kind == "onnx" else ()
    if missing := [name for name in needed if find_spec(name) is None]:
        raise ConfigError(f"{missing[0]} is not installed", remedy="pip install 'mailnet[export]'")
    return [name for name in PRECISIONS if name in precisions]


def _studies(
    predictor: Predictor, exported: Exported, run: Path, split: str, study: str | Path | None,
    data_root: str | Path | None, *, skip_bad: bool, cache: str | Path | None,
) -> Studies:  # fmt: skip
    other = None if study is None else Path(study)
    data = load_studies(predictor, run, other, split, data_root, skip_bad=skip_bad, cache=cache)
    return Studies(data, predictor.bundle, exported.modalities, split)


def _refused(table: Sequence[Mapping[str, Any]], accept_loss: bool) -> dict[str, float]:
    lost = {row["model"]: row["loss"] for row in table if "loss" in row}
    return {} if accept_loss else {name: loss for name, loss in lost.items() if name == "int8" and loss > ALLOWED_LOSS}


def _emulated(units: str | None) -> str:
    return f"bf16 computed by {units}" if units else "this processor has no bf16 units: computed there it is slower"
