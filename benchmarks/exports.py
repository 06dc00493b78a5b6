"""Every network as exported files, or why not: how far the answers are from the original's, size and time.

    python benchmarks/exports.py [--network NAME ...] [--inputs NAME ...] [--format onnx --format torch] [--json OUT]

Networks of random weights with three tasks (multiclass, ordinal, multilabel), on two images, on a volume with a table
and on a table alone. Each file answers three studies with every combination of modalities in one batch, and one of them
alone. Of noise drawn anew at each call means of calls are compared. Seconds are the processor's, for graph and file.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from mailnet.bundle import Bundle
from mailnet.cli.output import print_table
from mailnet.deploy.export.fold import lay_out
from mailnet.deploy.export.onnx_file import Session, write_onnx
from mailnet.deploy.export.program import Exported, read_program, trace, write_program
from mailnet.deploy.export.studies import Answer, answer_of_program, arrays_of, original_passes
from mailnet.errors import MailnetError
from mailnet.files import write_json
from mailnet.nn.batch import Batch
from mailnet.nn.noise import NOISE_MODES, get_noise
from mailnet.nn.registry import create_model, default_options, list_models
from mailnet.specs import ModalitySpec, TaskSpec

INPUTS = {
    "two images": (ModalitySpec("ct", size=(32, 32)), ModalitySpec("photo", channels=3, size=(32, 32))),
    "volume and table": (ModalitySpec("mri", "volume", size=(16, 16, 16)), ModalitySpec("lab", "tabular", channels=5)),
    "table": (ModalitySpec("lab", "tabular", channels=5),),
}
TASKS = {
    "kind": TaskSpec("kind", ("a", "b", "c")),
    "grade": TaskSpec("grade", ("1", "2", "3"), "ordinal"),
    "signs": TaskSpec("signs", ("x", "y"), "multilabel"),
}
MEMBERS = [{"name": name, "options": {"width": "nano"}} for name in ("mail", "pni_mail", "two_branch_resnet18")]
TOLERANCE = 1e-4
CALLS = 50


@dataclass(frozen=True)
class Row:
    """One line of the table: a file, or why there is none.

    Args:
        network: Its name.
        inputs: As of ``INPUTS``.
        noise: Of a random network.
        format: ``onnx`` or ``torch``.
        difference: The largest of a probability, of noise drawn anew of its mean.
        megabytes: Of the file.
        seconds: Of the processor, for graph and file.
        refused: Why there is none.
    """

    network: str
    inputs: str
    noise: str | None
    format: str
    difference: float | None = None
    megabytes: float | None = None
    seconds: float | None = None
    refused: str | None = None

    @property
    def wrong(self) -> bool:
        """Whether a file answers otherwise than the original."""
        return self.difference is not None and not self.difference <= (0.05 if self.noise == "sample" else TOLERANCE)


def bundle_of(network: str, inputs: str) -> Bundle:
    """Return a network of random weights; ValueError where it does not take such inputs."""
    specs = {spec.name: spec for spec in INPUTS[inputs]}
    options: dict[str, Any] = {"members": MEMBERS} if network == "ensemble" else {}
    if network != "ensemble" and "width" in default_options(network):
        options["width"] = "nano"
    if network == "single_modality":
        options["modality"] = next(iter(specs))
    torch.manual_seed(0)
    model = create_model(network, specs, TASKS, **options).eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)  # type: ignore[union-attr]
    return Bundle(
        modalities=specs, tasks=TASKS, model_name=network, options=options, defaults={}, study="random",
        regime="paired", id_column=None, preprocessing={}, tables={}, model=model,
    )  # fmt: skip


def studies(bundle: Bundle, absent: bool) -> Batch:
    """Return three studies with every combination of modalities."""
    count = len(bundle.modalities)
    kinds = [kind for kind in product((True, False), repeat=count) if any(kind)] if absent else [(True,) * count]
    masks = torch.tensor(kinds).repeat(3, 1)
    generator = torch.Generator().manual_seed(1)
    inputs = {
        name: torch.rand(len(masks), spec.channels, *(spec.size or ()), generator=generator)
        for name, spec in bundle.modalities.items()
    }
    return Batch(inputs, {name: masks[:, k] for k, name in enumerate(bundle.modalities)})


def difference(answer: Answer, exported: Exported, original: Bundle) -> float:
    """Return how far answers are from the original's, in one batch and one study at a time."""
    passes = original_passes(original, exported.noise)
    batch = studies(original, bool(exported.modalities))
    arrays = arrays_of(batch, original, exported.modalities)
    first = {name: values[:1] for name, values in arrays.items()}
    if exported.noise == "sample":
        expected = {name: draws.mean(0) for name, draws in passes.draw(batch, CALLS, 0).items()}
        calls = [answer(arrays) for _ in range(CALLS)]
        given = {name: np.mean([call[name] for call in calls], 0) for name in expected}
        return max(float(np.abs(given[name] - expected[name]).max()) for name in expected)
    expected, given, alone = passes.answers(batch), answer(arrays), answer(first)
    together = np.concatenate([np.abs(given[name] - expected[name]).ravel() for name in expected])
    single = np.concatenate([np.abs(alone[name] - expected[name][:1]).ravel() for name in expected])
    return float(max(together.max(), single.max()))


def rows_of(network: str, inputs: str, formats: Sequence[str]) -> Iterator[Row]:
    """Export a network in every way and yield what came of it."""
    try:
        original = bundle_of(network, inputs)
    except ValueError as error:
        yield Row(network, inputs, None, "-", refused=f"no such network: {error}")
        return
    # All modes on the first inputs, elsewhere the default.
    modes = NOISE_MODES if inputs == next(iter(INPUTS)) else ("mean",)
    for noise in modes if get_noise(original.model) is not None else (None,):
        begun = time.process_time()
        try:
            exported = trace(bundle_of(network, inputs), noise)  # type: ignore[arg-type]
        except MailnetError as error:
            yield Row(network, inputs, noise, "-", refused=str(error), seconds=time.process_time() - begun)
            continue
        traced = time.process_time() - begun
        for form in formats:
            begun = time.process_time()
            with TemporaryDirectory() as folder:
                path = Path(folder) / ("model.onnx" if form == "onnx" else "model.pt2")
                try:
                    answer = written(path, exported, form)
                except MailnetError as error:
                    yield Row(network, inputs, noise, form, refused=str(error))
                    continue
                seconds = traced + time.process_time() - begun
                size = path.stat().st_size / 1e6
                # Setting the noise of the original changes it.
                far = difference(answer, exported, bundle_of(network, inputs))
            yield Row(network, inputs, noise, form, far, round(size, 3), round(seconds, 1))


def written(path: Path, exported: Exported, form: str) -> Answer:
    """Write a file and return what answers from it."""
    if form == "onnx":
        write_onnx(path, exported)
        return Session(path, 1).run
    lay_out(exported.graph)
    write_program(path, exported.program(exported.graph))
    return answer_of_program(read_program(path), list(exported.bundle.modalities))


def main() -> None:
    """Read the options, export, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", action="append", choices=[*list_models(), "ensemble"])
    parser.add_argument("--inputs", action="append", choices=list(INPUTS))
    parser.add_argument("--format", action="append", choices=["onnx", "torch"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for network in options.network or [*list_models(), "ensemble"]:
        for inputs in options.inputs or INPUTS:
            for row in rows_of(network, inputs, options.format or ["onnx", "torch"]):
                rows.append(row)
                print(*line(row), sep="  ", flush=True)
                if options.json is not None:
                    write_json(options.json, [asdict(one) for one in rows])
    print_table(
        "Exports", ["network", "inputs", "noise", "format", "difference", "MB", "s"], [line(row) for row in rows]
    )
    if wrong := [row for row in rows if row.wrong]:
        raise SystemExit(f"{len(wrong)} files answer otherwise than the original")


def line(row: Row) -> list[str]:
    """Return the cells of a row."""
    head = [row.network, row.inputs, row.noise or "-", row.format]
    if row.refused is not None:
        return [*head, f"refused: {row.refused[:110]}", "-", "-"]
    return [*head, f"{row.difference:.1g}{' WRONG' if row.wrong else ''}", f"{row.megabytes:.2f}", f"{row.seconds:.0f}"]


if __name__ == "__main__":
    main()
