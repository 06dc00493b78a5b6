"""From a run to ``evaluation.json`` and ``predictions.parquet``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import mailnet
from mailnet.bundle import Predictor, Reliability, find_bundle, load, write_reliability
from mailnet.bundle.card import write_card
from mailnet.bundle.draws import draw_source
from mailnet.bundle.fitted import fitted_digests
from mailnet.bundle.reliability import calibration_digest
from mailnet.bundle.weights import weights_digest
from mailnet.data.config import EvaluationConfig, dump_config, load_config
from mailnet.data.progress import progress
from mailnet.data.study import StudyData
from mailnet.errors import ConfigError
from mailnet.evaluation.absent import absent_table, plan_combinations
from mailnet.evaluation.curves import task_curves
from mailnet.evaluation.foreign import foreign_tables, learn_foreign
from mailnet.evaluation.gaps import gap_tables
from mailnet.evaluation.hiding import plan_predictions, predict_hidden
from mailnet.evaluation.inputs import load_studies, results_folder
from mailnet.evaluation.predictions import prediction_table
from mailnet.evaluation.reliability import Wanted, fit_reliability, reliability_tables, selective_tables
from mailnet.evaluation.subgroups import subgroups_of
from mailnet.evaluation.tables import Measure, modality_tables, plan_shares, subgroup_tables
from mailnet.evaluation.uncertainty import measure_draws, uncertainty_columns, uncertainty_tables
from mailnet.files import read_json, replacing, write_json, write_text
from mailnet.metrics import measure
from mailnet.nn.counts import count_operations, count_parameters
from mailnet.nn.noise import get_noise

FORMAT = 1
AT_A_TIME = 512


def evaluate(
    run: str | Path,
    study: str | Path | None = None,
    *,
    split: str = "test",
    out: str | Path | None = None,
    data_root: str | Path | None = None,
    skip_bad: bool = False,
    cache: str | Path | None = None,
    device: str = "auto",
    bootstrap: int | None = None,
    absent: bool = False,
    wanted: Wanted | None = None,
    gaps: bool = False,
    uncertainty: int | None = None,
    foreign: float | None = None,
) -> dict[str, Any]:
    """Measure a run and write ``evaluation.json`` and ``predictions.parquet``.

    Args:
        run: The run folder; with ``study`` a bundle will do.
        study: Another study.yaml, for external validation; default the run's own.
        split: ``train``, ``val``, ``test`` or ``all``; of another study ``all`` is every study, without regard to
            splits.
        out: Folder for the two files, and for the resolved study.yaml, so that a report can be written of them;
            default the run. Needed with ``study``, since a run holds its own results.
        data_root: Where the images lie now; default as the study.yaml says.
        skip_bad: Leave studies with an unreadable image out.
        cache: Folder of decoded images.
        device: As ``mailnet.bundle.load`` takes it.
        bootstrap: Draws of the intervals, 0 for none; default as the study.yaml says.
        absent: Also measure every combination of modalities present and absent, see ``absent_table``.
        wanted: Calibration, prediction sets or threshold to fit first, on the run's validation studies; they are kept
            in its bundle, and every later prediction uses them.
        gaps: Also measure the gaps between subgroups, see ``mailnet.trust.fairness``.
        uncertainty: Also measure, by so many draws, how unsure the model is, and whether it is so where it is wrong; an
            ensemble has as many draws as members.
        foreign: Rate of false alarms at which every later prediction shall tell studies unlike those of training; that
            is first fitted on the run's training and validation studies, and kept in its bundle.

    Returns:
        What ``evaluation.json`` holds: per task metrics with 95% intervals, the same by subgroup and with each modality
        alone and left out, and what the model is. No identifier of a study is in it.

    Raises:
        RunError: The run cannot be read, ``out`` is another run, or the files cannot be written.
        ConfigError: The split is unknown, the study does not fit the model, ``out`` is missing, ``absent`` is asked
            of a study whose rows have one modality each, what is wanted does not fit the tasks, or there is nothing to
            draw from for the uncertainty.
        DataError: The data cannot be read.
    """
    folder = results_folder(run, study, out)
    own = folder.resolve() == Path(run).resolve()
    predictor = load(run, device, raw=True)
    reliability = predictor.bundle.reliability
    if uncertainty is not None:
        draw_source(predictor.model, predictor.bundle.model_name)  # refused before anything takes long
    if wanted:
        reliability = _fit(predictor, Path(run), wanted, data_root, skip_bad, cache)
    familiar = predictor.bundle.foreign
    if foreign is not None:
        familiar = learn_foreign(predictor, Path(run), foreign, data_root, skip_bad=skip_bad, cache=cache)
    calibrators = {} if reliability is None else {task: one.as_dict() for task, one in reliability.calibrators.items()}
    fitted = {"calibration": calibration_digest(calibrators), "fitted": fitted_digests(find_bundle(Path(run)))}
    data = load_studies(
        predictor, Path(run), None if study is None else Path(study), split, data_root, skip_bad=skip_bad, cache=cache
    )
    settings = data.config.evaluation
    if bootstrap is not None:
        settings = settings.model_copy(update={"bootstrap": bootstrap})
    measured = partial(_measured, data, settings)
    shares = plan_shares(data)
    sets = plan_combinations(data) if absent else []
    plan = plan_predictions(data, [*(hidden for of in shares.values() for hidden in of.values()), *sets])
    with progress("Predicting studies", len(data) + sum(len(hidden.rows) for hidden in plan)) as advance:
        predict = partial(_predict, predictor, data, advance)
        raw = predict(np.arange(len(data)), ())
        answers = predict_hidden(plan, raw, predict)
    probabilities = raw
    if reliability is not None:
        probabilities = reliability.calibrate(raw)
        answers = {hidden: reliability.calibrate(of) for hidden, of in answers.items()}
    drawn = None if uncertainty is None else measure_draws(predictor, reliability, data, uncertainty, settings.seed)
    result = {
        "format": FORMAT,
        "mailnet": mailnet.__version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "study": data.config.name,
        "external": study is not None,
        "regime": data.config.regime,
        "split": split,
        "n": len(data),
        "model": {**_model(predictor, Path(run)), **fitted},
        "data": {
            "groups": int(data.frame["group"].nunique()),
            "modalities": {name: int(present.sum()) for name, present in data.present.items()},
            "subgroups": {column: len(np.unique(of.values)) for column, of in subgroups_of(data).items()},
            "bad": len(set(data.bad_rows)),
        },
        "settings": settings.model_dump(mode="json"),
        "tasks": _tasks(data, probabilities, measured, settings),
        "subgroups": subgroup_tables(data, probabilities, measured),
        "modalities": modality_tables(data, shares, answers, measured),
        "selective": selective_tables(data, probabilities),
        "reliability": None
        if reliability is None
        else reliability_tables(data, raw, probabilities, reliability, measured),
        "foreign": None if familiar is None else foreign_tables(predictor, familiar, data),
        **({"gaps": gap_tables(data, probabilities, settings)} if gaps else {}),
        **({} if drawn is None else {"uncertainty": uncertainty_tables(data, probabilities, drawn, settings)}),
        **({"absent": absent_table(data, sets, answers, measured)} if absent else {}),
    }
    if not own:
        write_text(folder / "study.yaml", dump_config(data.config))
    with replacing(folder / "predictions.parquet") as temporary:
        table = prediction_table(data, probabilities)
        table.assign(**({} if drawn is None else uncertainty_columns(data, drawn))).to_parquet(temporary, index=False)
    write_json(folder / "evaluation.json", result)
    if wanted or foreign is not None or (own and split == "test"):
        write_card(run)
    return result


def _fit(
    predictor: Predictor,
    run: Path,
    wanted: Wanted,
    data_root: str | Path | None,
    skip_bad: bool,
    cache: str | Path | None,
) -> Reliability:
    """Fit what is wanted on the run's validation studies, and write it into its bundle."""
    wanted.check()
    data = load_studies(predictor, run, None, "val", data_root, skip_bad=skip_bad, cache=cache)
    with progress("Predicting validation studies", len(data)) as advance:
        raw = _predict(predictor, data, advance, np.arange(len(data)), ())
    try:
        found = fit_reliability(predictor.bundle.reliability, data, raw, wanted)
    except ValueError as error:
        raise ConfigError(str(error), remedy="See 'mailnet evaluate --help'") from error
    write_reliability(find_bundle(run), found)
    return found


def _predict(
    predictor: Predictor, data: StudyData, advance: Callable[[int], None], rows: np.ndarray, without: tuple[str, ...]
) -> dict[str, np.ndarray]:
    parts = []
    for start in range(0, max(len(rows), 1), AT_A_TIME):
        some = rows[start : start + AT_A_TIME]
        parts.append(predictor.predict_data(data, some, without=without))
        advance(len(some))
    return {task: np.concatenate([part[task] for part in parts]) for task in data.tasks}


def _measured(
    data: StudyData, settings: EvaluationConfig, task: str, probabilities: np.ndarray, rows: np.ndarray
) -> dict[str, Any]:
    group = data.frame["group"]
    return measure(
        probabilities,
        data.labels[task][rows],
        data.tasks[task],
        groups=None if group.is_unique else group.to_numpy(dtype=str)[rows],
        bootstrap=settings.bootstrap,
        bins=settings.bins,
        seed=settings.seed,
    )


def _tasks(
    data: StudyData, probabilities: dict[str, np.ndarray], measured: Measure, settings: EvaluationConfig
) -> dict[str, Any]:
    rows = np.arange(len(data))
    return {
        name: {
            "kind": spec.kind,
            "classes": list(spec.classes),
            **measured(name, probabilities[name], rows),
            "curves": task_curves(probabilities[name], data.labels[name], spec, settings.bins),
        }
        for name, spec in data.tasks.items()
    }


def _model(predictor: Predictor, run: Path) -> dict[str, Any]:
    noise = get_noise(predictor.model)
    operations = count_operations(predictor.model)
    parameters = count_parameters(predictor.model)
    record = read_json(run / "run.json") if (run / "run.json").is_file() else {}
    study = run / "study.yaml"
    return {
        "name": predictor.bundle.model_name,
        "options": predictor.bundle.options,
        "weights": weights_digest(run),
        "parameters": parameters.total,
        "trainable": parameters.trainable,
        "macs": operations.macs,
        "flops": operations.flops,
        "noise": None if noise is None else {"mode": noise.mode, "draws": noise.draws},
        "trained_on": predictor.bundle.study,
        # Each member of an ensemble has a seed of its own.
        "seed": load_config(study).train.seed if study.is_file() and "members" not in record else None,
        "epoch": record.get("best", {}).get("epoch"),
    }
