"""Whether an exported model answers as the original does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mailnet.bundle import Bundle
from mailnet.bundle.passes import Passes
from mailnet.deploy.export.studies import Answer, Arrays, Studies
from mailnet.errors import RunError
from mailnet.specs import TaskSpec

TOLERANCE = 1e-4  # of a probability, and of a feature relative to the largest of its kind
COUNTS = {1: 16, 8: 64}  # studies at a time -> studies that are compared
CALLS = 20  # of a graph that draws anew at each
SIGMAS = 6.0


def verify(
    answer: Answer, passes: Passes, studies: Studies, bundle: Bundle, *, exact: bool, sampled: bool = False
) -> dict[str, Any]:
    """Compare an exported model with the original on real studies, as they are and without each modality.

    Args:
        answer: The exported model.
        passes: The original, its noise as in the export.
        studies: Validation studies.
        bundle: The original's calibration and features.
        exact: Refuse differences beyond rounding; else they are only told.
        sampled: The exported model draws anew at each call: means of calls are compared.

    Returns:
        ``split``, ``studies`` (number), ``batches``, ``without``, ``max_difference`` (of the network's probabilities),
        ``max_difference_calibrated``, ``same_top`` (share of answers), ``tolerance`` (None unless exact).

    Raises:
        RunError: A difference that is refused.
    """
    asked = [(), *((name,) for name in studies.masks)]
    found = {"raw": 0.0, "calibrated": 0.0}
    same, answers, compared = 0, 0, set()
    for size, count in COUNTS.items():
        for without in asked:
            rows = studies.with_others(studies.some(count), without)
            if not len(rows):
                continue
            compared.update(rows.tolist())
            expected = studies.ask_original(passes, rows, without)
            if sampled:
                _sampled(answer, passes, studies, rows[:8], without)
                continue
            given = studies.ask(answer, rows, size, without)
            calibrated = {name: values.copy() for name, values in expected.items()}
            if bundle.reliability is not None:
                calibrated = bundle.reliability.calibrate(expected)
            for task, spec in bundle.tasks.items():
                raw = float(np.abs(given[f"raw.{task}"] - expected[task]).max())
                found["raw"] = max(found["raw"], raw)
                found["calibrated"] = max(found["calibrated"], float(np.abs(given[task] - calibrated[task]).max()))
                agree = _same_top(given[task], calibrated[task], spec, TOLERANCE if exact else 0.0)
                same, answers = same + int(agree.sum()), answers + agree.size
                if exact:
                    _refuse(raw, task, size, without, "the network's probabilities")
                    _refuse(_calibration_error(given, task, bundle), task, size, without, "their calibration")
                    if not agree.all():
                        raise _failed(f"{(~agree).sum()} answers of '{task}' are others", size, without)
            if exact:
                _features(given, passes, studies, rows, without, bundle)
    return {
        "split": studies.split,
        "studies": len(compared),
        "batches": list(COUNTS),
        "without": [list(one) for one in asked if one],
        "max_difference": None if sampled else found["raw"],
        "max_difference_calibrated": None if sampled else found["calibrated"],
        "same_top": same / answers if answers else None,
        "tolerance": TOLERANCE if exact else None,
    }


def _calibration_error(given: Arrays, task: str, bundle: Bundle) -> float:
    """How far the graph's calibration of its own probabilities is from the calibrator's."""
    raw = given[f"raw.{task}"]
    fitted = {} if bundle.reliability is None else bundle.reliability.calibrators
    expected = fitted[task].apply(raw) if task in fitted else raw
    return float(np.abs(given[task] - expected).max())


def _same_top(given: np.ndarray, expected: np.ndarray, spec: TaskSpec, margin: float) -> np.ndarray:
    """Return (N,), of labels (N, K), whether the answer is the same; within the margin of a tie either is right."""
    if spec.kind == "multilabel":
        same: np.ndarray = ((given >= 0.5) == (expected >= 0.5)) | (np.abs(expected - 0.5) <= margin)
        return same
    rows = np.arange(len(given))
    reached: np.ndarray = expected[rows, given.argmax(1)] >= expected.max(1) - margin
    return reached


def _features(
    given: Arrays, passes: Passes, studies: Studies, rows: np.ndarray, without: Sequence[str], bundle: Bundle
) -> None:
    names = [name for name in given if name.startswith("features.")]
    if not names or bundle.foreign is None:
        return
    expected = passes.watched(studies.batch(rows, without), bundle.foreign.layers)[1].features()
    for name in names:
        own = given[name]
        other = expected.get(name.removeprefix("features."), np.full_like(own, np.nan))
        scale = max(1.0, float(np.nanmax(np.abs(other), initial=0.0)))
        if not np.allclose(own, other, rtol=0, atol=10 * TOLERANCE * scale, equal_nan=True):
            raise _failed(f"'{name}' differs by {np.nanmax(np.abs(own - other)):.2g}", 8, without)


def _sampled(answer: Answer, passes: Passes, studies: Studies, rows: np.ndarray, without: Sequence[str]) -> None:
    """Compare means of calls: those of the graph, and of as many draws of the original."""
    calls = [studies.ask(answer, rows, len(rows), without) for _ in range(CALLS)]
    draws = passes.draw(studies.batch(rows, without), CALLS, 0)
    for task, expected in draws.items():
        given = np.stack([call[f"raw.{task}"] for call in calls])
        if np.array_equal(given[0], given[1]):
            raise _failed(f"two calls answer '{task}' with the same numbers", len(rows), without)
        error = np.sqrt((given.var(0, ddof=1) + expected.var(0, ddof=1)) / CALLS) + 1e-3
        if (np.abs(given.mean(0) - expected.mean(0)) > SIGMAS * error).any():
            raise _failed(f"the mean of {CALLS} calls of '{task}' is another", len(rows), without)


def _refuse(difference: float, task: str, size: int, without: Sequence[str], what: str) -> None:
    if not difference <= TOLERANCE:  # also where it is no number
        raise _failed(f"{what} of '{task}' differ by {difference:.2g}, more than {TOLERANCE:g}", size, without)


def _failed(what: str, size: int, without: Sequence[str]) -> RunError:
    missing = f", without {', '.join(without)}" if without else ""
    return RunError(
        f"the exported model does not answer as the original: {what} (batches of {size}{missing})",
        remedy="Nothing was written; serve the bundle itself, with torch, and report this as a fault of mailnet",
    )
