"""Whether a study's table is like those that a model has learned from; without torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mailnet.bundle.odd import Odd, shortened, unseen_in_words
from mailnet.data.numeric import CLIP, NumericState
from mailnet.data.table import TableState
from mailnet.trust.alarm import Alarm


@dataclass(frozen=True)
class ForeignTable:
    """Of a table: how far its features lie outside of the range that training studies had, summed over features.

    A missing category has the feature of one that was never seen: only its cell tells the two apart, see
    ``mailnet.bundle.odd``.

    Args:
        low: (F,) lowest of training, rounded down to a quarter of a deviation so that no patient's own value is kept.
        high: (F,) highest, rounded up.
        alarm: On the score of validation studies.
    """

    low: np.ndarray
    high: np.ndarray
    alarm: Alarm

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
    value = float(scaled) * state.std[k] + state.mean[k]
    return float(np.expm1(value)) if state.log else value
