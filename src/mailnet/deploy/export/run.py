"""From a run to exported folders, verified and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from mailnet.bundle import Predictor, find_bundle, load, read_bundle
from mailnet.data.config import SPLITS, load_config
from mailnet.data.manifest import read_manifest
from mailnet.data.progress import progress
from mailnet.deploy.export import measure, quantise
from mailnet.deploy.export.choices import chosen_of, refusal_of
from mailnet.deploy.export.folder import clear_files, publish, refuse_folder
from mailnet.deploy.export.job import Job
from mailnet.deploy.export.program import Exported, trace
from mailnet.deploy.export.studies import Studies
from mailnet.deploy.layout import FACTS
from mailnet.errors import ConfigError, RunError
from mailnet.evaluation.inputs import load_studies
from mailnet.folders import workshop
from mailnet.nn.noise import NoiseMode

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
    chosen = chosen_of(kind, precisions, noise)
    run = Path(run)
    bundle_folder = find_bundle(run)
    folder = (run if bundle_folder != run else run.parent) / "export" if out is None else Path(out)
    refuse_folder(folder, run)
    predictor = load(run, "cpu", raw=True)
    held = _held(run, study, data_root)
    if "val" not in held:
        raise ConfigError("there are no validation studies to verify an export on", remedy="Give a --study with some")
    exported = trace(read_bundle(run), cast("NoiseMode | None", noise))
    val, measured = (
        _studies(predictor, exported, run, split, study, data_root, skip_bad=skip_bad, cache=cache)
        for split in ("val", "test" if "test" in held else "val")
    )
    job = Job(kind, chosen, exported, predictor, run, val, measured)
    with (
        workshop(folder) as made,
        progress("Exporting", 1 + sum(STEPS[name] for name in {"fp32", *chosen})) as advance,
    ):
        parts = job.make(made, advance)
        table = job.table(parts, rounds)
        advance(1)
        result = job.facts(table)
        refused = None if accept_loss else refusal_of(table)
        folders = {}
        for name in chosen:
            if name == "int8" and refused is not None:
                continue
            folders[name] = folder / name if len(chosen) > 1 else folder
            facts = result | {"kind": name, **parts[name].facts, "table": table}
            if len(chosen) > 1 and (folder / FACTS).is_file():  # an earlier export of one precision
                clear_files(folder)
            publish(parts[name].file.parent, bundle_folder, folders[name], facts)
    if refused is not None:
        raise RunError(
            f"{refused}; written were {', '.join(folders)}" if folders else refused,
            file=folder,
            remedy="Give --accept-loss to have it all the same, or take fp32 or bf16",
        )
    found = {name: part.facts["verification"] for name, part in parts.items() if name in chosen}
    return {"folders": {name: str(path) for name, path in folders.items()}, **result, "verification": found,
            "table": table}  # fmt: skip


def _held(run: Path, study: str | Path | None, data_root: str | Path | None) -> set[str]:
    """Return the splits that hold studies; where there is no study.yaml, all, so that reading them says so."""
    source = run / "study.yaml" if study is None else Path(study)
    if not source.is_file():
        return {*SPLITS}
    manifest, _ = read_manifest(load_config(source, data_root=data_root))  # what is wrong with it, reading studies says
    return {*manifest.frame["split"]}


def _studies(
    predictor: Predictor, exported: Exported, run: Path, split: str, study: str | Path | None,
    data_root: str | Path | None, *, skip_bad: bool, cache: str | Path | None,
) -> Studies:  # fmt: skip
    other = None if study is None else Path(study)
    data = load_studies(predictor, run, other, split, data_root, skip_bad=skip_bad, cache=cache)
    return Studies(data, predictor.bundle, exported.modalities, split)
