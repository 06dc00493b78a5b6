"""Whether two images of a study are of one patient; without torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mailnet.trust.alarm import Alarm
from mailnet.trust.pairs import PairScore


@dataclass(frozen=True)
class ForeignPair:
    """Of two modalities whose images look alike, or unlike, in a way that two patients' would not.

    Args:
        first: Name of a modality.
        second: Of another.
        score: Of their pictures.
        alarm: On the score of validation studies.
        told: Share of validation studies that it calls foreign once they have the second image of another patient.
    """

    first: str
    second: str
    score: PairScore
    alarm: Alarm
    told: float

    @property
    def name(self) -> str:
        """Under which it is among what is found of modalities."""
        return f"{self.first} with {self.second}"

    @property
    def words(self) -> str:
        """What is said of images that do not go together."""
        return "they look as if they were of two patients, or of two examinations"

    def p_value(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return (n,) chance that the images of a study like those of validation go together as badly, or worse."""
        return self.alarm.p_value(self.score.score(first, second))
