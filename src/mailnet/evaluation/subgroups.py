"""The subgroups of patients that a study names: the values of a column, of a number its bands."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from mailnet.data.study import StudyData

T = TypeVar("T")
MOST_NUMBERS = 10  # values of a number that are each a subgroup; of more, bands are made
BANDS = 4  # about as many, between the numbers below and above which 5% of the studies lie


@dataclass(frozen=True)
class Subgroups:
    """The subgroups of one column.

    Args:
        values: (N,) text, the subgroup of each study, empty where it is not known.
        order: The subgroups as they are shown: words by the alphabet, bands from low to high.
    """

    values: np.ndarray
    order: list[str]

    def ordered(self, found: Mapping[str, T]) -> dict[str, T]:
        """Return what was found of some subgroups, in their order."""
        return {name: found[name] for name in self.order if name in found}


def subgroups_of(data: StudyData) -> dict[str, Subgroups]:
    """Return column -> its subgroups, of all columns that the study names.

    A column of more than ten numbers, such as an age, is cut into bands of a round width, whether or not it is an input
    of the study. A column with a word among them, or with numbers that begin with zeros, has names.
    """
    found = {}
    for column in data.config.subgroups:
        numbers = data.frame.get(f"raw:{column}")
        values = data.frame[f"subgroup:{column}"].astype(str).to_numpy()
        known = numbers.to_numpy(dtype=np.float64) if numbers is not None and numbers.dtype.kind == "f" else None
        bands, order = banded(numbers_of(values) if known is None else known)
        found[column] = Subgroups(bands, order) if order else Subgroups(values, sorted(set(values.tolist()) - {""}))
    return found


def numbers_of(texts: np.ndarray) -> np.ndarray:
    """Return the numbers (N,) that texts are, NaN for the empty ones; NaN for all where one of them is a name.

    A code, such as a hospital's, is told from a number where it begins with a zero that no number is written with.

    >>> numbers_of(np.array(["41", "", "7.5"])).tolist(), numbers_of(np.array(["041", "105"])).tolist()
    ([41.0, nan, 7.5], [nan, nan])
    """
    names, place = np.unique(texts, return_inverse=True)
    values = [_number(name) for name in names.tolist()]
    read = np.array([np.nan if value is None else value for value in values])
    return np.full(len(texts), np.nan) if None in values else read[place.reshape(-1)]


def _number(text: str) -> float | None:
    """Return a number, NaN of an empty text, None of what is none."""
    digits = text.lstrip("+-")
    if digits[:1] == "0" and digits[1:2].isdigit():
        return None
    try:
        value = float(text) if text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) or not text else None


def banded(numbers: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return the band (N,) of each number, empty where it is NaN, and the bands from low to high.

    The width is the next of 1, 2, 5, 10, 20, 50 ... that makes at most about four bands of the middle 90%; the few
    studies below and above belong to the outer bands, which are open. Of ten values or fewer there are no bands.

    >>> banded(np.array([31.0, 44.0, 58.0, 71.0, 90.0, np.nan] + list(range(20, 90, 5))))[1]
    ['below 40', '40 to <60', '60 to <80', '80 or more']
    """
    known = numbers[np.isfinite(numbers)]
    if len(np.unique(known)) <= MOST_NUMBERS:
        return np.full(len(numbers), ""), []
    low, high = np.quantile(known, [0.05, 0.95])
    width = _round_up((high - low) / BANDS) if high > low else _round_up(float(np.ptp(known)) / BANDS)
    first, last = math.floor(low / width) + 1, math.floor(high / width)
    cuts = [k * width for k in range(first, max(last, first) + 1)]
    names = [f"below {cuts[0]:g}", *(f"{a:g} to <{b:g}" for a, b in itertools.pairwise(cuts))]
    names.append(f"{cuts[-1]:g} or more")
    place = np.searchsorted(cuts, numbers, side="right")
    values = np.where(np.isfinite(numbers), np.array(names)[np.minimum(place, len(cuts))], "")
    return values, [name for name in names if (values == name).any()]


def _round_up(width: float) -> float:
    scale = 10.0 ** math.floor(math.log10(width))
    return next(step * scale for step in (1, 2, 5, 10) if step * scale >= width * (1 - 1e-9))
