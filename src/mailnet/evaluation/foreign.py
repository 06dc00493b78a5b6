"""Foreign studies: what tells them is fitted on training and validation studies, and its alarms counted on others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mailnet.bundle import Foreign, ForeignFound, Predictor, find_bundle, write_foreign
from mailnet.bundle.foreign import RATE, join_found
from mailnet.bundle.foreign_images import Distance, ForeignImages, Look, raised
from mailnet.bundle.foreign_table import ForeignTable
from mailnet.data.progress import progress
from mailnet.data.study import StudyData
from mailnet.data.table import TableState
from mailnet.errors import ConfigError
from mailnet.evaluation.foreign_pairs import fit_pairs
from mailnet.evaluation.inputs import load_studies
from mailnet.evaluation.looking import batches, draw, find_layers, look, work
from mailnet.trust.alarm import Alarm, fit_alarm
from mailnet.trust.checks import fit_image_checks
from mailnet.trust.foreign import fit_mahalanobis
from mailnet.trust.theory import covered_interval


def learn_foreign(
    predictor: Predictor,
    run: Path,
    rate: float,
    data_root: str | Path | None,
    *,
    skip_bad: bool,
    cache: str | Path | None,
) -> Foreign:
    """Fit on a run's training and validation studies what tells foreign ones, and write it into its bundle.

    Raises:
        ConfigError: The rate is not between 0 and 1, or there is nothing to learn from.
        DataError: The data cannot be read.
        RunError: The run has no study.yaml, or its bundle cannot be written.
    """
    train, val = (
        load_studies(predictor, run, None, split, data_root, skip_bad=skip_bad, cache=cache)
        for split in ("train", "val")
    )
    seed = train.config.evaluation.seed
    with progress("Looking at training studies", work(train, seed) + work(val, seed)) as advance:
        try:
            found = fit_foreign(predictor, train, val, rate=rate, seed=seed, advance=advance)
        except ValueError as error:
            raise ConfigError(str(error), remedy="See 'mailnet evaluate --help'") from error
    write_foreign(find_bundle(run), found)
    return found


def fit_foreign(
    predictor: Predictor,
    train: StudyData,
    val: StudyData,
    *,
    rate: float = RATE,
    seed: int = 0,
    advance: Callable[[int], object] = int,
) -> Foreign:
    """Fit distances, checks and pairs on training studies and alarms on validation studies.

    Of images at most 2,000 a modality are drawn of each. A modality with fewer than two training studies, or whose
    training images are all the same, is left out.

    Args:
        predictor: The model.
        train: Training studies.
        val: Validation studies.
        rate: Rate of false alarms, of a study.
        seed: Of the draws.
        advance: Called with the number of studies just seen, of ``work(train, seed) + work(val, seed)``.

    Raises:
        ValueError: A rate that is not between 0 and 1, or no modality that could be fitted.
    """
    if not 0 < rate < 1:
        raise ValueError(f"the rate of false alarms must be between 0 and 1, got {rate:g}")
    patients = val.frame["group"].to_numpy(dtype=str)
    found: dict[str, ForeignImages | ForeignTable] = {}
    drawn, held = draw(train, seed), draw(val, seed)
    layers = find_layers(predictor, train, drawn)
    seen, beside = (look(predictor, *of, layers, advance) for of in ((train, drawn), (val, held)))
    for name in train.modalities:
        if name in train.tables:
            rows, own = (np.flatnonzero(data.present[name]) for data in (train, val))
            if len(rows) > 1:
                found[name] = _table(
                    train.arrays[name][rows], val.arrays[name][own], train.tables[name], rate, patients[own]
                )
        elif len(drawn[name]) > 1 and (
            one := _images(seen[name], beside.get(name), layers.get(name, ()), rate, patients[held[name]])
        ):
            found[name] = one
    if not found:
        raise ValueError("no modality has two different training studies to tell foreign ones by")
    tables = {name: state for name, state in predictor.tables.items() if name in found}
    usable = [name for name in seen if name in found and name in beside]
    pairs = fit_pairs(usable, (seen, drawn), (beside, held), patients, rate, len(found))
    return Foreign(found, rate, tables, pairs)


def examine(predictor: Predictor, foreign: Foreign, data: StudyData, rows: np.ndarray) -> dict[str, ForeignFound]:
    """Return what is found in loaded studies, in the order of ``rows``."""
    parts, order = [], []
    for some, batch in batches(data, rows):
        features = predictor.features(batch, foreign.layers) if foreign.needs_features else {}
        inputs, present = ({name: x.numpy() for name, x in of.items()} for of in (batch.inputs, batch.present))
        parts.append(foreign.examine(inputs, present, features))
        order.append(some)
    if not parts:
        return {}
    place = np.argsort(np.concatenate(order))[np.argsort(np.argsort(rows))]
    return {
        name: ForeignFound(one.p[place], one.sounds[place], [one.findings[row] for row in place])
        for name, one in join_found(parts).items()
    }


def foreign_tables(predictor: Predictor, foreign: Foreign, data: StudyData) -> dict[str, Any]:
    """Return what ``evaluation.json`` says of foreign studies.

    Returns:
        ``rate`` stated of a study, ``split`` of the alarms; ``study`` and ``modalities`` (name, also of a pair -> the
        same): number of studies, alarms, their share, and the share stated; of a modality also ``high``, the share that
        as many patients exceed in 2.5% of cases, as validation and tested ones happen to be, the studies in which
        anything was found, the training images and validation patients it was fitted on, the kinds of distance, and
        the reason why its alarm cannot sound, if so; of a pair ``told``, see ``ForeignPair``.
    """
    found = examine(predictor, foreign, data, np.arange(len(data)))
    patients = data.frame["group"].to_numpy(dtype=str)
    asked = np.sum([np.isfinite(one.p) for one in found.values()], axis=0)
    any_sounds = np.any([one.sounds for one in found.values()], axis=0)
    modalities = {
        name: {
            **_counted(one.sounds[here], stated),
            "high": _by_chance(stated, foreign.alarms[name].patients, len(np.unique(patients[here]))),
            "findings": int(sum(bool(words) for words in one.findings)),
            **_fitted(foreign, name),
            "patients": foreign.alarms[name].patients,
            "reason": foreign.reason(name),
        }
        for name, one in found.items()
        for here in [np.isfinite(one.p)]
        for stated in [float((foreign.rate / asked[here]).mean()) if here.any() else None]
    }
    return {
        "rate": foreign.rate,
        "split": "val",
        "study": _counted(any_sounds[asked > 0], foreign.rate),
        "modalities": modalities,
    }


def _fitted(foreign: Foreign, name: str) -> dict[str, Any]:
    """Return what one alarm was fitted on, of a pair also the share of strangers that it told in validation."""
    fitted = foreign.modalities.get(name)
    if isinstance(fitted, ForeignImages):
        return {"images": fitted.images, "kinds": list(fitted.distances)}
    told = {pair.name: pair.told for pair in foreign.pairs}
    return {"images": None, "kinds": ["ranges"]} if fitted else {"images": None, "kinds": ["pair"], "told": told[name]}


def _by_chance(stated: float | None, validation: int, tested: int) -> float | None:
    """Return the upper end of the 95% interval of the share of alarms; None where there are no studies."""
    if stated is None:
        return None
    return 1 - covered_interval(Counter({(validation, tested): 1}), stated, 0.95)[0]


def _counted(sounds: np.ndarray, stated: float | None) -> dict[str, Any]:
    share = float(sounds.mean()) if len(sounds) else None
    return {"studies": len(sounds), "alarms": int(sounds.sum()), "share": share, "stated": stated}


def _images(
    seen: Look, beside: Look | None, layers: tuple[int, ...], rate: float, patients: np.ndarray
) -> ForeignImages | None:
    checks, distances = fit_image_checks(seen.statistics), {}
    for kind in ("picture", "features") if seen.features is not None else ("picture",):
        try:
            score = fit_mahalanobis(seen.values(kind))
        except ValueError:  # all the same
            continue
        silent = Distance(score, Alarm((), (), rate))
        if beside is None:
            distances[kind] = silent
            continue
        own = raised(silent.log(beside.values(kind)), checks.check_statistics(beside.statistics))
        distances[kind] = Distance(score, fit_alarm(own, rate, patients=patients))
    if "picture" not in distances:
        return None
    return ForeignImages(checks, distances, layers if "features" in distances else (), len(seen.picture))


def _table(
    training: np.ndarray, validation: np.ndarray, state: TableState, rate: float, patients: np.ndarray
) -> ForeignTable:
    silent = ForeignTable.around(training, state, Alarm((), (), rate))
    return replace(silent, alarm=fit_alarm(silent.score(validation), rate, patients=patients))
