"""The studies that a run is measured on: its own, or those of another place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mailnet.bundle import Predictor
from mailnet.data.config import SPLITS, PixelConfig, SplitConfig, StudyConfig, load_config
from mailnet.data.splits import digests
from mailnet.data.study import StudyData, load_study
from mailnet.errors import ConfigError, DataError, RunError
from mailnet.files import read_json

# Of the preparation of images: where and how another study has its files. The rest is as in training.
OWN = ("column", "range", "convert", "select", "frame", "mask", "max_pixels", "max_voxels")


def results_folder(run: str | Path, study: str | Path | None, out: str | Path | None) -> Path:
    """Return where the results of a measurement on a run go.

    Args:
        run: The run.
        study: Another study that it is measured on, None for its own.
        out: Folder that was asked for; None for the run.

    Raises:
        ConfigError: Results of another study would replace the run's own.
        RunError: The folder holds another run.
    """
    folder = Path(run if out is None else out)
    own = folder.resolve() == Path(run).resolve()
    if study is not None and own:
        raise ConfigError(
            "results of another study would replace the run's own", remedy="Give a folder for them with --out"
        )
    if not own and (folder / "run.json").is_file():
        raise RunError("holds another run", file=folder, remedy="Choose another folder with --out")
    return folder


def load_studies(
    predictor: Predictor,
    run: Path,
    study: Path | None,
    split: str,
    data_root: str | Path | None,
    *,
    skip_bad: bool,
    cache: str | Path | None,
) -> StudyData:
    """Return the studies, prepared as the model learnt them.

    Raises:
        RunError: The run has no study.yaml and no other study is given.
        ConfigError: The split is unknown, or the study does not fit the model.
        DataError: The data cannot be read, or test studies were seen in training.
    """
    if split not in (*SPLITS, "all"):
        raise ConfigError(f"'{split}' is no split", remedy=f"Choose {', '.join(SPLITS)} or all")
    own = run / "study.yaml"
    if study is None and not own.is_file():
        raise RunError("has no study.yaml, so it is not known what to evaluate on", file=run, remedy="Give a --study")
    config = load_config(study or own, data_root=data_root)
    if study is not None:
        config = _prepared_alike(config, predictor, study)
        if split == "all":
            # Another study's own division means nothing to this model: every study of it is a test.
            whole = SplitConfig(train=0.0, val=0.0, test=1.0)
            config, split = config.model_copy(update={"split": whole}), "test"
    splits = [name for name in SPLITS if name == split] or None
    data = load_study(config, cache=cache, skip_bad=skip_bad, tables=_tables(config, predictor), splits=splits)
    if study is None and split == "test" and (run / "seen.json").is_file():
        _refuse_seen(data, read_json(run / "seen.json"))
    return data


def _refuse_seen(data: StudyData, seen: Mapping[str, Sequence[str]]) -> None:
    """A table that has changed since training is divided anew where no column says how: patients may have moved."""
    known = {digest for split in seen.values() for digest in split}
    rows = [row for row, unit in zip(data.frame["row"], data.frame["unit"], strict=True) if digests([unit])[0] in known]
    if rows:
        raise DataError(
            f"{len(rows)} test studies belong to patients that the run was trained or selected on",
            study=f"row {rows[0]}",
            remedy="The table or its division has changed since training: restore it, give the split as a column, or "
            "evaluate new patients as a study of their own with --study",
        )


def _tables(config: StudyConfig, predictor: Predictor) -> dict[str, Any]:
    return {name: state for name, state in predictor.tables.items() if name in config.modalities}


def _prepared_alike(config: StudyConfig, predictor: Predictor, study: Path) -> StudyConfig:
    """Keep what the model knows, and prepare it as in training; columns and value ranges are the other study's own."""
    modalities: dict[str, Any] = {}
    for name, learnt in predictor.bundle.preprocessing.items():
        section = config.modalities.get(name)
        if section is None:
            continue
        if section.kind != learnt.kind:
            raise ConfigError(
                f"is of kind '{section.kind}', the model's is '{learnt.kind}'",
                modality=name,
                file=study,
                remedy="Name the modalities as the model does",
            )
        if isinstance(section, PixelConfig) and isinstance(learnt, PixelConfig):
            own = {key: getattr(section, key) for key in OWN if hasattr(section, key)}
            modalities[name] = learnt.model_copy(update=own)
        else:
            modalities[name] = learnt
    tasks = {name: task for name, task in config.tasks.items() if name in predictor.tasks}
    for noun, known, found in (
        ("modality", predictor.modalities, modalities),
        ("task", predictor.tasks, tasks),
    ):
        if not found:
            remedy = f"Name them as the model does: {', '.join(known)}"
            raise ConfigError(f"has no {noun} of the model", file=study, remedy=remedy)
    for name, task in tasks.items():
        spec = predictor.tasks[name]
        if (task.kind, tuple(task.class_values)) != (spec.kind, spec.classes):
            raise ConfigError(
                f"is {task.kind} with the classes {', '.join(task.class_values)}; the model's is {spec.kind} with "
                f"{', '.join(spec.classes)}",
                task=name,
                file=study,
                remedy="Give the model's classes in its order, each with the label values that mean it",
            )
    return config.model_copy(update={"modalities": modalities, "tasks": tasks})
