"""From several runs to one whose model is their ensemble."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from mailnet.bundle import Bundle, find_bundle, read_bundle, save_bundle
from mailnet.data.config import ROBUST, ModelConfig, StudyConfig, dump_config, load_config
from mailnet.errors import ConfigError, RunError
from mailnet.files import read_json, write_json, write_text
from mailnet.nn.counts import count_parameters
from mailnet.nn.noise import get_noise
from mailnet.nn.registry import create_model
from mailnet.training.run import finish_run

# Of the preparation of an image, what it is in training alone.
FREE = ("augment",)


def make_ensemble(runs: Sequence[str | Path], out: str | Path) -> Path:
    """Write a run whose network answers with the mean of the runs' probabilities.

    The runs are of one study and one division into training, validation and test: they may differ in network, options,
    seed and all else of training. No calibration of a member is kept, since the mean needs one of its own.

    Args:
        runs: Folders of finished runs, two or more.
        out: Folder for ``bundle``, ``study.yaml``, ``run.json``, ``data.json`` and ``seen.json``, as training leaves
            them.

    Returns:
        The folder.

    Raises:
        RunError: A run cannot be read or has not finished, or the folder holds a run already.
        ConfigError: Fewer than two runs, one run twice, or runs that do not belong together.
    """
    folders, out = [Path(run) for run in runs], Path(out)
    if len(folders) < 2:
        raise ConfigError("an ensemble needs two runs or more", remedy="Train others with --set train.seed=1, 2, ...")
    for one, other in combinations(folders, 2):
        if one.resolve() == other.resolve():
            raise ConfigError("is given twice", file=other, remedy="Give each run once")
    if any((out / name).exists() for name in ("run.json", "study.yaml", "bundle", "config.json")):
        raise RunError("holds a run already", file=out, remedy="Choose another folder with --out")
    bundles = [read_bundle(run) for run in folders]
    for run, bundle in zip(folders[1:], bundles[1:], strict=True):
        _check_alike(folders[0], bundles[0], run, bundle)
    seen = [_seen(run) for run in folders]
    for place, run in enumerate(folders[1:], start=1):
        _check_division(folders[0], seen[0], run, seen[place])
    first = bundles[0]
    members = [_member(run) for run in folders]
    model: Any = create_model("ensemble", first.modalities, first.tasks, members=members)
    for network, bundle in zip(model.members, bundles, strict=True):
        network.load_state_dict(bundle.model.state_dict())
    config = _config(folders, members)
    data = read_json(folders[0] / "data.json") if (folders[0] / "data.json").is_file() else {}
    save_bundle(out / "bundle", model.eval(), "ensemble", {"members": members}, config, first.tables,
                data.get("studies"))  # fmt: skip
    write_text(out / "study.yaml", dump_config(config))
    write_json(out / "seen.json", seen[0])
    if data:
        shutil.copyfile(folders[0] / "data.json", out / "data.json")
    finish_run(out, {}, _record(folders, bundles, model))
    return out


def _member(run: Path) -> dict[str, Any]:
    # With the defaults that it was created with, which a newer mailnet may have changed.
    model = read_json(find_bundle(run) / "config.json")["model"]
    return {"name": model["name"], "options": {**model.get("defaults", {}), **model["options"]}}


def _config(folders: Sequence[Path], members: list[dict[str, Any]]) -> StudyConfig:
    """Return the study of the first run with the ensemble as its network; a defense stays that all were trained by."""
    configs = [load_config(run / "study.yaml") for run in folders]
    train = configs[0].train
    if any(config.train.defense != train.defense for config in configs):
        train = train.model_copy(update={"defense": None, "monitor": train.monitor.removeprefix(ROBUST)})
    model = ModelConfig(name="ensemble", options={"members": members})
    return configs[0].model_copy(update={"model": model, "train": train})


def _record(folders: Sequence[Path], bundles: Sequence[Bundle], model: torch.nn.Module) -> dict[str, Any]:
    """Return what ``run.json`` says of the ensemble: of each member its network, seed and best epoch."""
    members = []
    for run, bundle in zip(folders, bundles, strict=True):
        record = read_json(run / "run.json") if (run / "run.json").is_file() else {}
        members.append(
            {
                "network": bundle.model_name,
                "seed": load_config(run / "study.yaml").train.seed,
                **{key: record.get(key) for key in ("device", "precision", "torch", "defense", "best")},
            }
        )
    alike = {key: members[0][key] for key in ("device", "precision", "torch", "defense")
             if all(member[key] == members[0][key] for member in members)}  # fmt: skip
    source = get_noise(model)
    return {
        **{key: value for key, value in alike.items() if value is not None},
        "noise": None if source is None else source.mode,
        "parameters": count_parameters(model).trainable,
        "members": members,
    }


def _check_alike(first: Path, one: Bundle, run: Path, other: Bundle) -> None:
    """Refuse a run that reads other inputs, prepares them otherwise, or answers other questions."""
    pairs: dict[str, tuple[Any, Any]] = {
        "study": (one.study, other.study),
        "regime": (one.regime, other.regime),
        "modalities": (_inputs(one), _inputs(other)),
        "tasks": (one.tasks, other.tasks),
        "preprocessing": (_prepared(one), _prepared(other)),
        "table": (_tables(one), _tables(other)),
        "column of identifiers": (one.id_column, other.id_column),
    }
    for what, (a, b) in pairs.items():
        if a != b:
            raise ConfigError(
                f"cannot be in one ensemble with {first}: its {what} differs{_difference(a, b)}",
                file=run,
                remedy="Give runs of one study, which may differ in network, options, seed and training",
            )


def _inputs(bundle: Bundle) -> dict[str, Any]:
    # Mean and spread of the training images are part of each network.
    return {name: replace(spec, mean=None, std=None) for name, spec in bundle.modalities.items()}


def _tables(bundle: Bundle) -> dict[str, Any]:
    return {name: state.to_dict() for name, state in bundle.tables.items()}


def _prepared(bundle: Bundle) -> dict[str, dict[str, Any]]:
    return {name: section.model_dump(mode="json", exclude=set(FREE)) for name, section in bundle.preprocessing.items()}


def _difference(a: Any, b: Any) -> str:
    """Name the first key whose values differ, or two values that are short."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        if set(a) != set(b):
            return f": {', '.join(map(str, b))} there {', '.join(map(str, a))}"
        key = next(key for key in a if a[key] != b[key])
        return f": {key}{_difference(a[key], b[key])}"
    return f" ({b} and {a})" if max(len(str(a)), len(str(b))) < 100 else ""


def _seen(run: Path) -> dict[str, list[str]]:
    """Return split -> digests of the patients that a run was trained and selected on."""
    if not (run / "seen.json").is_file():
        raise RunError(
            "has no seen.json, so it is not known which patients it was trained on",
            file=run,
            remedy="Give the whole folder that 'mailnet train' wrote, or train again",
        )
    return {split: sorted(of) for split, of in read_json(run / "seen.json").items()}


def _check_division(first: Path, one: Mapping[str, list[str]], run: Path, other: Mapping[str, list[str]]) -> None:
    """Refuse a run of another division: what one keeps for validation or test, the other has learnt from."""
    if one == other:
        return
    known, new = ({digest for of in seen.values() for digest in of} for seen in (one, other))
    apart = len(known ^ new)
    moved = len(set(one.get("train", ())) ^ set(other.get("train", ())))
    what = (
        f"{apart} patients that one was trained or selected on are test patients of the other, or unknown to it"
        if apart
        else f"{moved} patients are for training in one and for validation in the other"
    )
    raise ConfigError(
        f"cannot be in one ensemble with {first}: {what}, so what the ensemble is measured or calibrated on would be "
        "known to a member",
        file=run,
        remedy="Train all members on one division: the same table, split.seed or split column; let train.seed differ. "
        "Folds of a cross-validation stay runs of their own: evaluate each on its own test part",
    )
