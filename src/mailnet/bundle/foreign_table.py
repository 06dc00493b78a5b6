"""Whether a study's table is like those that a model has learned from; without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mailnet.bundle.odd import Odd, shortened, unseen_in_words
from mailnet.data.numeric import CLIP, NumericState
from mailnet.data.table import TableState
from mailnet.trust.alarm import Alarm

STEP = 0.25  # of a deviation, by which ranges are widened at most
SLACK = 2e-5  # of a step


@dataclass(frozen=True)
class ForeignTable:
    """Of a table: how far its features lie outside of the range that training studies had, summed over features.

    A missing category has the feature of one that was never seen: only its cell tells the two apart, see
    ``mailnet.bundle.odd``.

    Args:
        low: (F,) lowest of training, rounded down by up to a quarter of a deviation, so that no patient's own value is
            kept; of a number to a round one in the column's own unit, so that no age falls below 0.
        high: (F,) highest, rounded up.
        alarm: On the score of validation studies.
    """

    low: np.ndarray
    high: np.ndarray
    alarm: Alarm

    @staticmethod
    def around(features: np.ndarray, state: TableState, alarm: Alarm) -> ForeignTable:
        """Return that of training features (N, F), rounded outward.

        Args:
            features: Of training studies.
            state: Of the table.
            alarm: On the score.
        """
        low = np.floor(features.min(0) / STEP) * STEP
        high = np.ceil(features.max(0) / STEP) * STEP
        for k, name in enumerate(state.features):
            if name not in state.numeric.names:
                continue
            place = state.numeric.names.index(name)
            mean, std = state.numeric.mean[place], state.numeric.std[place]
            step = _round_down(STEP * std)
            # What lies on a step but for the digits that features lose stays there.
            ends = features[:, k].astype(np.float64)[[features[:, k].argmin(), features[:, k].argmax()]] * std + mean
            least, most = np.floor(ends[0] / step + SLACK) * step, np.ceil(ends[1] / step - SLACK) * step
            low[k], high[k] = (least - mean) / std, (most - mean) / std
        return ForeignTable(low.astype(np.float32), high.astype(np.float32), alarm)

    def score(self, features: np.ndarray) -> np.ndarray:
        """Return the score (n,) of features (n, F), 0 where all are within."""
        return np.asarray(self._excess(features).sum(1), dtype=np.float64)

    def findings(self, features: np.ndarray, state: TableState, odd: Odd | None = None) -> list[str]:
        """Return what is outside in one study, at most ten columns.

        Args:
            features: (F,).
            state: Of the table.
            odd: Which of its categories training has not seen, where its cells are known.
        """
        outside = np.flatnonzero(self._excess(features[None])[0])
        names = state.features
        return shortened([self._words(names[k], k, float(features[k]), state, odd) for k in outside.tolist()])

    def _words(self, name: str, k: int, value: float, state: TableState, odd: Odd | None) -> str:
        for column in state.categorical:
            if name == f"{column.name}=unknown":
                if odd is None:
                    return f"{column.name} has no value, or one that no training study had"
                if column.name in odd.unseen:
                    return unseen_in_words(column.name)
                return f"{column.name} has no value, which every training study had"
        if name not in state.numeric.names:
            return f"{name} is unlike in training studies"
        own, low, high = (_raw(state.numeric, name, each) for each in (value, self.low[k], self.high[k]))
        clipped = "" if abs(value) < CLIP else " or more" if value > 0 else " or less"
        return f"{name} is {own:.4g}{clipped}, in training studies about {low:.4g} to {high:.4g}"

    def _excess(self, features: np.ndarray) -> np.ndarray:
        beyond = np.maximum(features - self.high, self.low - features)
        return np.where(beyond > 1e-5, beyond, 0.0)


def _raw(state: NumericState, name: str, scaled: float) -> float:
    k = state.names.index(name)
    # Features have seven digits, and a 0 that was scaled and back would be shown as a tiny number.
    digits = 5 - math.floor(math.log10(state.std[k]))
    value = round(float(scaled) * state.std[k] + state.mean[k], digits) + 0.0
    return float(np.expm1(value)) if state.log else value


def _round_down(width: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20, 50 ... that is not above a width.

    >>> _round_down(4.3), _round_down(0.05), _round_down(1900)
    (2.0, 0.05, 1000.0)
    """
    scale = 10.0 ** math.floor(math.log10(width))
    return next(step * scale for step in (5, 2, 1, 0.5) if step * scale <= width * (1 + 1e-9))
