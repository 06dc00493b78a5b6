"""The models of a measurement of damage, asked: whole, with each kind of damage, with modalities missing or swapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mailnet.bundle import Predictor
from mailnet.data.config import EvaluationConfig
from mailnet.data.progress import progress
from mailnet.data.study import StudyData
from mailnet.evaluation.hiding import Hidden, leave_out
from mailnet.robustness.damage.damaged import Answers, Asked, predict_damaged, predict_swapped, swap_partners
from mailnet.robustness.damage.harm import Harm, Reader, Reading, estimate, read_harm
from mailnet.robustness.kept import Kept


@dataclass
class Measured:
    """What was found of one run.

    Args:
        run: Its folder.
        data: Its studies.
        predictor: Its model.
        harms: Modality -> task -> harm.
        missing: Modality -> task -> metrics with the modality and without it.
        swapped: Modality -> task -> the same with it and with another patient's.
    """

    run: Path
    data: StudyData
    predictor: Predictor
    harms: dict[str, dict[str, Harm]] = field(default_factory=dict)
    missing: dict[str, Any] = field(default_factory=dict)
    swapped: dict[str, Any] = field(default_factory=dict)


def ask_all(
    both: Sequence[Measured],
    settings: EvaluationConfig,
    kinds: Sequence[str],
    severities: Sequence[int],
    chosen: Sequence[str],
    kept: Kept,
    seed: int,
) -> None:
    """Ask the models, of the first one also with modalities missing and swapped; what is read of it goes into them.

    Args:
        both: The run and, where there is one, its reference.
        settings: Of the intervals.
        kinds: Of damage.
        severities: Of each kind.
        chosen: Modalities that are damaged.
        kept: Where answers are kept.
        seed: Of the damage and of who is swapped with whom.
    """
    own = both[0]
    rows = {name: np.flatnonzero(own.data.present[name]) for name in chosen}
    hidden = {name: leave_out(own.data, name) for name in own.data.modalities}
    total = len(both) * (sum(len(r) for r in rows.values()) * len(kinds) * len(severities) + len(own.data))
    with progress("Predicting damaged studies", total + 2 * sum(len(each.rows) for each in hidden.values())) as advance:
        for measured, model in zip(both, ("own", "reference"), strict=False):
            asked = Asked(kept, model, advance)
            reader, every = Reader(measured.data, settings), np.arange(len(measured.data))
            plain = asked.once("plain", len(every), partial(measured.predictor.predict_data, measured.data, every))
            for name, here in rows.items():
                damaged = predict_damaged(measured.predictor, measured.data, name, here, kinds, severities, seed, asked)
                measured.harms[name] = read_harm(reader, here, _of(plain, here), damaged)
            if measured is own:
                for name, each in hidden.items():
                    _miss(own, reader, name, each, plain, asked)
                    _swap(own, reader, name, each, plain, seed, asked)


def _miss(own: Measured, reader: Reader, name: str, hidden: Hidden, plain: Answers, asked: Asked) -> None:
    if tasks := reader.labelled(hidden.rows):
        place, make = list(own.data.modalities).index(name), partial(own.predictor.predict_data, own.data, hidden.rows)
        found = asked.once(f"missing-{place}", len(hidden.rows), partial(make, without=hidden.without))
        own.missing[name] = {
            task: _compared(reader.read(task, plain[task][hidden.rows], hidden.rows),
                            reader.read(task, found[task], hidden.rows), "missing")
            for task in tasks
        }  # fmt: skip
    else:
        asked.advance(len(hidden.rows), before=True)


def _swap(own: Measured, reader: Reader, name: str, hidden: Hidden, plain: Answers, seed: int, asked: Asked) -> None:
    groups = own.data.frame["unit"].to_numpy(dtype=str)[hidden.rows]
    partners = swap_partners(groups, seed)
    rows, partners = hidden.rows[partners >= 0], hidden.rows[partners[partners >= 0]]
    if tasks := reader.labelled(rows):
        place = list(own.data.modalities).index(name)
        make = partial(predict_swapped, own.predictor, own.data, name, rows, partners)
        found = asked.once(f"swapped-{place}", len(hidden.rows), make)
        own.swapped[name] = {}
        for task in tasks:
            before, after = plain[task][rows], found[task]
            compared = _compared(reader.read(task, before, rows), reader.read(task, after, rows), "swapped")
            own.swapped[name][task] = compared | _confidence(before, after, own.data.tasks[task].kind == "multilabel")
    else:
        asked.advance(len(hidden.rows), before=True)


def _compared(before: Reading, after: Reading, word: str) -> dict[str, Any]:
    loss = estimate(after.error[0] - before.error[0], np.asarray(after.error[1] - before.error[1]))
    return {"n": before.n, "clean": before.metrics(), word: after.metrics(), "loss": loss}


def _confidence(before: np.ndarray, after: np.ndarray, multilabel: bool) -> dict[str, float]:
    """Return the mean probability of what is answered, before and after, and how often the answer stays."""
    if multilabel:
        sure = [float(np.maximum(p, 1 - p).mean()) for p in (before, after)]
        same = float(((before > 0.5) == (after > 0.5)).mean())
    else:
        sure = [float(p.max(1).mean()) for p in (before, after)]
        same = float((before.argmax(1) == after.argmax(1)).mean())
    return {"confidence_clean": sure[0], "confidence_swapped": sure[1], "same_answer": same}


def _of(plain: Answers, rows: np.ndarray) -> Answers:
    return {task: values[rows] for task, values in plain.items()}
