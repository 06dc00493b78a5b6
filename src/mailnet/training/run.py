"""The folder that training writes: whether it may be used, and what stands in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import mailnet
from mailnet.data.config import SPLITS, StudyConfig, dump_config, load_config
from mailnet.data.splits import digests
from mailnet.data.study import StudyData
from mailnet.errors import MailnetError, RunError
from mailnet.files import read_json, write_json, write_text

FORMAT = 1
# What may change between two starts of one run, since no weight depends on it.
FREE = (
    "description",
    "source",
    "data_root",
    "evaluation",
    "train.device",
    "train.checkpoint_minutes",
    "train.shard",
    "train.track",
    "train.tracking_uri",
)


@dataclass(frozen=True)
class TrainResult:
    """What training gives.

    Args:
        run: The run folder.
        best: Of the epoch whose weights are in the bundle: ``epoch``, ``monitor`` (name), ``value`` and ``loss``, on
            the validation studies.
        history: A dict an epoch, as in ``metrics.jsonl``.
    """

    run: Path
    best: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


def open_run(run: Path, config: StudyConfig, resume: bool) -> TrainResult | None:
    """Check that a folder can hold this run, and return the result where the run is finished.

    Args:
        run: The folder; it need not exist.
        config: The configuration of the run.
        resume: Whether a run that the folder holds may be continued.

    Raises:
        RunError: It holds a run of another configuration or of a newer mailnet, or any run where ``resume`` is False.
    """
    if run.exists() and not run.is_dir():
        raise RunError("is not a folder", file=run, remedy="Choose another run folder")
    if not (run / "run.json").is_file() and not (run / "study.yaml").is_file():
        return None
    if not resume:
        raise RunError("holds a run already", file=run, remedy="Choose another folder, or continue the run")
    record = read_json(run / "run.json") if (run / "run.json").is_file() else {}
    if int(record.get("format", FORMAT)) > FORMAT:
        raise RunError(
            f"was written by mailnet {record.get('mailnet')}, this is {mailnet.__version__}",
            file=run,
            remedy="Update mailnet, or choose another run folder",
        )
    if (run / "study.yaml").is_file():
        changed = _differences(load_config(run / "study.yaml"), config)
        if changed:
            raise RunError(
                f"holds a run of another configuration: {'; '.join(changed)}",
                file=run,
                remedy="Choose another run folder with --out, or give the configuration of the run",
            )
    if record.get("status") != "finished" or not (run / "bundle").is_dir():
        return None
    return TrainResult(run, record["best"], read_history(run))


def _differences(old: StudyConfig, new: StudyConfig) -> list[str]:
    before, after = _flat(old.model_dump(mode="json")), _flat(new.model_dump(mode="json"))
    keys = [key for key in {**before, **after} if not any(key == free or key.startswith(f"{free}.") for free in FREE)]
    return [
        f"{key} is {json.dumps(before.get(key))} there and {json.dumps(after.get(key))} now"
        for key in keys
        if before.get(key) != after.get(key)
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inner = isinstance(value, dict) and value
        flat.update(_flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value})
    return flat


def processes_before(run: Path) -> int | None:
    """Return how many processes trained at the last start of a run; None where there was none."""
    return read_json(run / "run.json").get("processes") if (run / "run.json").is_file() else None


def begin_run(run: Path, config: StudyConfig, data: StudyData, record: dict[str, Any]) -> None:
    """Write ``study.yaml``, ``data.json``, ``seen.json`` (digests of the patients of each split) and ``run.json``.

    Args:
        run: The folder.
        config: The resolved configuration.
        data: The studies.
        record: Device, precision and the like, for ``run.json``.

    Raises:
        RunError: The folder holds the beginning of this run on other data, or cannot be written.
    """
    summary = describe_data(data)
    if (run / "data.json").is_file() and read_json(run / "data.json") != json.loads(json.dumps(summary)):
        raise RunError(
            "the data are not those that the run began with (see data.json)",
            file=run,
            remedy="Restore the data, or choose another run folder",
        )
    write_text(run / "study.yaml", dump_config(config))
    write_json(run / "data.json", summary)
    units = data.frame["unit"].to_numpy()
    write_json(run / "seen.json", {split: digests(units[data.rows(split)]) for split in SPLITS[:2]})
    write_json(run / "run.json", {"format": FORMAT, "mailnet": mailnet.__version__, "status": "training", **record})


def finish_run(run: Path, best: dict[str, Any], record: dict[str, Any]) -> None:
    """Mark the run as finished in ``run.json``."""
    state = {"format": FORMAT, "mailnet": mailnet.__version__, "status": "finished", **record, "best": best}
    write_json(run / "run.json", state)


def write_history(run: Path, history: Sequence[dict[str, Any]]) -> None:
    """Write ``metrics.jsonl``, all of it, so that no epoch can stand in it twice."""
    write_text(run / "metrics.jsonl", "".join(json.dumps(line, allow_nan=False) + "\n" for line in history))


def read_history(run: Path) -> list[dict[str, Any]]:
    """Read ``metrics.jsonl``.

    Raises:
        RunError: It is missing or damaged.
    """
    try:
        text = (run / "metrics.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]
    except (OSError, ValueError) as error:
        remedy = "Restore it or make the run again"
        raise RunError(f"cannot be read ({error})", file=run / "metrics.jsonl", remedy=remedy) from error


def describe_data(data: StudyData) -> dict[str, Any]:
    """Return the contents of ``data.json``: counts and ranges, and of bad studies a row number and no identifier."""
    rows = {split: data.rows(split) for split in SPLITS}
    tasks = {
        name: {
            split: _label_counts(data.labels[name][index], spec.classes, spec.kind == "multilabel")
            for split, index in rows.items()
        }
        for name, spec in data.tasks.items()
    }
    modalities = {
        name: {
            "kind": spec.kind,
            "channels": spec.channels,
            "size": list(spec.size) if spec.size else None,
            "mean": list(spec.mean) if spec.mean else None,
            "std": list(spec.std) if spec.std else None,
            "studies": {split: int(data.present[name][index].sum()) for split, index in rows.items()},
        }
        for name, spec in data.modalities.items()
    }
    return {
        "studies": {split: len(index) for split, index in rows.items()},
        "modalities": modalities,
        "tasks": tasks,
        "bad": [{"row": row, **_without_identity(bad)} for row, bad in zip(data.bad_rows, data.bad, strict=True)],
    }


def _without_identity(error: MailnetError) -> dict[str, str]:
    # An id column may hold what identifies a patient, as may file names.
    return {key: value for key, value in error.as_dict().items() if key in ("modality", "message", "remedy")}


def _label_counts(labels: np.ndarray[Any, Any], classes: Sequence[str], several: bool) -> dict[str, int]:
    if several:
        return {name: int(np.nansum(labels[:, k])) for k, name in enumerate(classes)}
    return {name: int((labels == k).sum()) for k, name in enumerate(classes)}
