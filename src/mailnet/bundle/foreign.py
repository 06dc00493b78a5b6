"""Whether a study is like those that a model has learned from, modality by modality; without torch.

What is kept are means, covariances and ranges of training studies and the scores of validation studies, single numbers
that name nobody. Distances to neighbours would have to keep the features of single patients: these are Mahalanobis'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from mailnet.bundle.foreign_table import ForeignTable
from mailnet.data.table import TableState
from mailnet.trust.alarm import Alarm
from mailnet.trust.checks import Finding, ImageChecks, image_statistics
from mailnet.trust.foreign import Mahalanobis
from mailnet.trust.profile import image_profile
from mailnet.trust.scores import patients_needed

RATE = 0.05
# What no score reaches: of an image that is plainly wrong, or on which the network has no numbers.
PLAIN = 1e6
Scale: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class Look:
    """What is seen of n images of a modality without their pixels.

    Args:
        profiles: (n, P), see ``mailnet.trust.profile``.
        statistics: n of ``mailnet.trust.checks``.
        features: (n, C) of the network, None where it gives none.
    """

    profiles: np.ndarray
    statistics: Sequence[Mapping[str, float]]
    features: np.ndarray | None = None

    @staticmethod
    def at(images: np.ndarray, features: np.ndarray | None = None) -> Look:
        """Look at images (n, C, H, W), or volumes (n, C, D, H, W), in [0, 1]."""
        profiles = [image_profile(image) for image in images]
        return Look(np.array(profiles), [image_statistics(image) for image in images], features)

    def values(self, kind: str) -> np.ndarray:
        """Return (n, D) what a distance of ``profile`` or ``features`` is of.

        Raises:
            ValueError: The network has given no features.
        """
        if kind == "profile":
            return self.profiles
        if self.features is None:
            raise ValueError("the network gives no features of this modality")
        return self.features


@dataclass(frozen=True)
class ForeignImages:
    """Of an image or volume.

    Its score is the higher one of two distances, of the picture's profile and of the network's features, each as its
    logarithm in units in which validation has its median at 0 and its 95th percentile at 1. One alarm on this score
    spends the rate once, where Bonferroni would spend half of it on each and, the two being alike, waste some.

    Args:
        checks: Plain checks.
        scores: ``profile`` and, where the network gives features, ``features``.
        scales: Of each of these the median of its logarithm in validation, and the 95th percentile less the median.
        alarm: On the score of validation studies.
        images: Training images that all was fitted on.
    """

    checks: ImageChecks
    scores: Mapping[str, Mahalanobis]
    scales: Mapping[str, Scale]
    alarm: Alarm
    images: int

    def score(self, look: Look) -> tuple[np.ndarray, list[list[Finding]]]:
        """Return the score (n,), and what is plainly found in each image."""
        found = [self.checks.check_statistics(statistics) for statistics in look.statistics]
        score = combined(self.scores, self.scales, look)
        plain = [any(finding.code != "outside" for finding in several) for several in found]
        return np.where(plain, PLAIN, score), found


def combined(scores: Mapping[str, Mahalanobis], scales: Mapping[str, Scale], look: Look) -> np.ndarray:
    """Return (n,) the higher one of the distances, each in its scale; ``PLAIN`` where features are no numbers."""
    found = np.full(len(look.profiles), -np.inf)
    for kind, score in scores.items():
        middle, spread = scales[kind]
        found = np.maximum(found, (log_distance(score, look.values(kind)) - middle) / spread)
    return np.asarray(np.minimum(found, PLAIN))


def log_distance(score: Mahalanobis, values: np.ndarray) -> np.ndarray:
    """Return (n,) the logarithm of the distances, infinite where values are no numbers."""
    finite = np.isfinite(values).all(1)
    found = np.full(len(values), np.inf)
    found[finite] = np.log(np.maximum(score.score(values[finite]), 1e-12))
    return found


@dataclass(frozen=True)
class ForeignFound:
    """What is found in N studies' modality.

    Args:
        p: (N,) chance that a study like those of validation is at least as foreign; NaN where the modality is absent.
        sounds: (N,) bool, it is called foreign: p times the number of the study's modalities is at most the rate.
        findings: N lists of what is plainly odd, in words, whether or not the alarm sounds.
    """

    p: np.ndarray
    sounds: np.ndarray
    findings: list[list[str]]


@dataclass(frozen=True)
class Foreign:
    """A warning a modality, and one a study: any of its modalities'.

    Modalities share the rate evenly (Bonferroni over those that a study has), so at most ``rate`` of studies like those
    of validation are called foreign, whatever depends on what.

    Args:
        modalities: Those that had training studies to learn from.
        rate: Rate of false alarms, of a study.
        tables: State of each table among them.
    """

    modalities: dict[str, ForeignImages | ForeignTable]
    rate: float = RATE
    tables: Mapping[str, TableState] = field(default_factory=dict)

    @property
    def needs_features(self) -> bool:
        """Whether it asks for the network's features."""
        return any("features" in one.scores for one in self.modalities.values() if isinstance(one, ForeignImages))

    def reason(self, name: str) -> str:
        """Why a modality's alarm never sounds in a study that has all modalities; empty where it can."""
        least, own = patients_needed(self.rate / len(self.modalities)), self.modalities[name].alarm.patients
        return "" if own >= least else f"{own} validation patients have it, {least} are needed"

    def examine(
        self,
        inputs: Mapping[str, np.ndarray],
        present: Mapping[str, np.ndarray],
        features: Mapping[str, np.ndarray],
    ) -> dict[str, ForeignFound]:
        """Return modality -> what is found in B studies.

        Args:
            inputs: Modality -> (B, ...), as the network is given them; those that no study has may be missing.
            present: Modality -> (B,) bool.
            features: Modality -> (B, C) of the network.
        """
        count = len(next(iter(present.values())))
        have = {
            name: np.flatnonzero(present[name]) if name in inputs and name in present else np.zeros(0, dtype=int)
            for name in self.modalities
        }
        asked = np.zeros(count)
        for rows in have.values():
            asked[rows] += 1
        found = {}
        for name, one in self.modalities.items():
            rows, p = have[name], np.full(count, np.nan)
            words: list[list[str]] = [[] for _ in range(count)]
            if len(rows):
                score, texts = self._score(name, inputs[name][rows], features[name][rows] if name in features else None)
                p[rows] = one.alarm.p_value(score)
                for row, several in zip(rows, texts, strict=True):
                    words[row] = several
            # NaN is never at most the rate.
            found[name] = ForeignFound(p, p * asked <= self.rate + 1e-9, words)
        return found

    def _score(self, name: str, values: np.ndarray, features: np.ndarray | None) -> tuple[np.ndarray, list[list[str]]]:
        one = self.modalities[name]
        if isinstance(one, ForeignTable):
            return one.score(values), [one.findings(row, self.tables[name]) for row in values]
        score, found = one.score(Look.at(values, features))
        return score, [[str(finding) for finding in several] for several in found]


def join_found(parts: Sequence[Mapping[str, ForeignFound]]) -> dict[str, ForeignFound]:
    """Return what was found in all batches, one after the other."""
    return {
        name: ForeignFound(
            np.concatenate([part[name].p for part in parts]),
            np.concatenate([part[name].sounds for part in parts]),
            [words for part in parts for words in part[name].findings],
        )
        for name in (parts[0] if parts else ())
    }


def found_as_json(found: Mapping[str, ForeignFound], row: int) -> dict[str, Any]:
    """Return one study's modalities for JSON; those that are absent are left out."""
    return {
        name: {"p": float(one.p[row]), "alarm": bool(one.sounds[row]), "findings": one.findings[row]}
        for name, one in found.items()
        if np.isfinite(one.p[row])
    }
