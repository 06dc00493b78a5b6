"""The words and numbers of the report: what a metric means, how a value is written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeGuard


@dataclass(frozen=True)
class Metric:
    """How a metric is named, written and explained.

    Args:
        key: Its key in ``evaluation.json``.
        label: Its name in the report.
        meaning: One sentence for a reader who has not met it.
        percent: Written as a percentage.
    """

    key: str
    label: str
    meaning: str
    percent: bool = False


METRICS = (
    Metric(
        "balanced_accuracy",
        "Balanced accuracy",
        "Mean over the classes of the share found; a rare class counts as much as a common one, and always answering "
        "the commonest class gives 1/classes.",
        percent=True,
    ),
    Metric(
        "accuracy",
        "Accuracy",
        "Share of studies that were classified rightly; high without merit where one class is common.",
        percent=True,
    ),
    Metric(
        "macro_f1",
        "Macro F1",
        "Mean over the classes of the balance between finding a class and raising false alarms; 1 is perfect.",
    ),
    Metric(
        "macro_auroc",
        "Macro AUROC",
        "Chance that a study of a class gets a higher probability for it than a study without it, mean over the "
        "classes; 0.5 is guessing, 1 is perfect.",
    ),
    Metric(
        "macro_auprc",
        "Macro AUPRC",
        "Area under the precision-recall curve, mean over the classes; guessing gives the share of the class.",
    ),
    Metric(
        "label_accuracy",
        "Label accuracy",
        "Share of yes-or-no answers that are right, mean over the classes; high without merit where findings are rare.",
        percent=True,
    ),
    Metric(
        "mean_absolute_error",
        "Mean absolute error",
        "Mean distance between the true and the predicted class, in steps of the order; 0 is perfect.",
    ),
    Metric(
        "quadratic_kappa",
        "Quadratic kappa",
        "Agreement on ordered classes beyond chance, where a miss by two steps weighs four times a miss by one.",
    ),
    Metric(
        "ece",
        "Calibration error (ECE)",
        "Mean distance between the probability given and the share that was right; 0 is perfect.",
    ),
    Metric(
        "adaptive_ece",
        "Adaptive calibration error",
        "The same where each bin of probabilities holds as many studies as the others.",
    ),
    Metric("brier", "Brier score", "Mean squared distance between the probabilities and the truth; 0 is perfect."),
    Metric("nll", "Log loss (NLL)", "Mean surprise at the true class; a confident mistake costs much; 0 is perfect."),
)
EXACT = Metric(
    "accuracy",
    "Exact match",
    "Share of studies in which every label is right.",
    percent=True,
)
BY_KEY = {metric.key: metric for metric in METRICS}


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% interval, where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


def estimate(raw: Any) -> Estimate | None:
    """Return the estimate that ``evaluation.json`` holds, None where it could not be computed."""
    if isinstance(raw, Mapping):
        value, low, high = raw.get("value"), raw.get("low"), raw.get("high")
    else:
        value, low, high = raw, None, None
    if not _number(value):
        return None
    return Estimate(float(value), float(low), float(high)) if _number(low) and _number(high) else Estimate(float(value))


def number(value: Any, percent: bool = False, digits: int = 3) -> str:
    """Return a value as text, a hyphen where there is none.

    >>> number(0.8421, percent=True), number(0.8421), number(None)
    ('84.2%', '0.842', '-')
    """
    if not _number(value):
        return "-"
    return f"{100 * value:.1f}%" if percent else f"{value:.{digits}f}"


def interval(value: Estimate | None, percent: bool = False) -> str:
    """Return the interval as text, empty where there is none.

    >>> interval(Estimate(0.8, 0.75, 0.85), percent=True)
    '75.0 to 85.0%'
    """
    if value is None or value.low is None or value.high is None:
        return ""
    if percent:
        return f"{100 * value.low:.1f} to {100 * value.high:.1f}%"
    return f"{value.low:.3f} to {value.high:.3f}"


def count(value: Any) -> str:
    """Return a count with separators.

    >>> count(1234567)
    '1,234,567'
    """
    return f"{int(value):,}" if _number(value) else "-"


def magnitude(value: Any) -> str:
    """Return a large number in millions or thousands of millions.

    >>> magnitude(1_234_567), magnitude(2.5e9), magnitude(12_300)
    ('1.23 million', '2.50 billion', '12,300')
    """
    if not _number(value):
        return "-"
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if value >= size:
            return f"{value / size:.2f} {word}"
    return count(value)


def listing(words: Sequence[str]) -> str:
    """Return words joined as in a sentence.

    >>> listing(["ct", "mri", "pet"])
    'ct, mri and pet'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else list(words))


def plural(n: int, word: str, words: str | None = None) -> str:
    """Return a count with its noun.

    >>> plural(1, "study", "studies"), plural(3, "class", "classes")
    ('1 study', '3 classes')
    """
    return f"{n:,} {word if n == 1 else words or word + 's'}"


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
