"""Whether a study is like those that a model has learned from, modality by modality; without torch.

What is kept are means, covariances and ranges of training studies and the scores of validation studies, single numbers
that name nobody. Distances to neighbours would have to keep the features of single patients: these are Mahalanobis'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mailnet.bundle.foreign_table import ForeignTable
from mailnet.bundle.odd import Odd
from mailnet.data.table import TableState
from mailnet.trust.alarm import Alarm
from mailnet.trust.checks import Finding, ImageChecks, measure_images
from mailnet.trust.foreign import Mahalanobis
from mailnet.trust.profile import image_profiles
from mailnet.trust.scores import patients_needed

RATE = 0.05
# What no score reaches: of an image that is plainly wrong, or on which the network has no numbers.
PLAIN = 1e6


@dataclass(frozen=True)
class Look:
    """What is seen of n images of a modality without their pixels.

    Args:
        statistics: (n, S) of ``mailnet.trust.checks``.
        picture: (n, P) these, and the profile of ``mailnet.trust.profile``.
        features: (n, C) of the network, None where it gives none.
    """

    statistics: np.ndarray
    picture: np.ndarray
    features: np.ndarray | None = None

    @staticmethod
    def at(images: np.ndarray, features: np.ndarray | None = None) -> Look:
        """Look at images (n, C, H, W), or volumes (n, C, D, H, W), in [0, 1]."""
        statistics = measure_images(images)
        return Look(statistics, np.c_[image_profiles(images), statistics], features)

    def values(self, kind: str) -> np.ndarray:
        """Return (n, D) what a distance of ``picture``, or of ``features`` and the picture together, is of.

        Raises:
            ValueError: The network has given no features.
        """
        if kind == "picture":
            return self.picture
        if self.features is None:
            raise ValueError("the network gives no features of this modality")
        return np.concatenate([self.picture, self.features], axis=1)


@dataclass(frozen=True)
class Distance:
    """A distance and its alarm.

    Args:
        score: The distance.
        alarm: On its logarithm in validation studies.
    """

    score: Mahalanobis
    alarm: Alarm

    def log(self, values: np.ndarray) -> np.ndarray:
        """Return (n,) the logarithm of the distance of (n, D), ``PLAIN`` where these are no numbers."""
        finite = np.isfinite(values).all(1)
        found = np.full(len(values), PLAIN)
        found[finite] = np.log(np.maximum(self.score.score(values[finite]), 1e-12))
        return found


@dataclass(frozen=True)
class ForeignImages:
    """Of an image or volume.

    The picture's own numbers and the network's early features are one vector and have one distance: how they go
    together tells more than each by itself, and one alarm spends the rate once, where Bonferroni would divide it.

    Args:
        checks: Plain checks.
        distances: ``picture``, which needs no network, and where this gives features ``features``, which is used then.
        layers: Places of the layers that give these in the network's ``feature_layers``.
        images: Training images that all was fitted on.
    """

    checks: ImageChecks
    distances: Mapping[str, Distance]
    layers: tuple[int, ...]
    images: int

    @property
    def alarm(self) -> Alarm:
        """The alarm that is used where the network gives features."""
        return self.distances.get("features", self.distances["picture"]).alarm

    def examine(self, look: Look) -> tuple[np.ndarray, list[list[Finding]]]:
        """Return p-values (n,), and what is plainly found in each image."""
        found = self.checks.check_statistics(look.statistics)
        kind = "picture" if look.features is None else "features"
        used = self.distances[kind]
        return used.alarm.p_value(raised(used.log(look.values(kind)), found)), found


def raised(scores: np.ndarray, found: Sequence[Sequence[Finding]]) -> np.ndarray:
    """Return (n,) scores, ``PLAIN`` where an image is blank, or of colours where grey is expected or the reverse."""
    plain = [any(finding.code != "outside" for finding in several) for several in found]
    return np.where(plain, PLAIN, scores)


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
        return any(self.layers.values())

    @property
    def layers(self) -> dict[str, tuple[int, ...]]:
        """Image or volume -> places of the layers whose features it asks for."""
        return {name: one.layers for name, one in self.modalities.items() if isinstance(one, ForeignImages)}

    def reason(self, name: str) -> str:
        """Why a modality's alarm never sounds in a study that has all modalities; empty where it can."""
        least, own = patients_needed(self.rate / len(self.modalities)), self.modalities[name].alarm.patients
        return "" if own >= least else f"{own} validation patients have it, {least} are needed"

    def examine(
        self,
        inputs: Mapping[str, np.ndarray],
        present: Mapping[str, np.ndarray],
        features: Mapping[str, np.ndarray],
        odd: Mapping[str, Sequence[Odd]] | None = None,
    ) -> dict[str, ForeignFound]:
        """Return modality -> what is found in B studies.

        Args:
            inputs: Modality -> (B, ...), as the network is given them; those that no study has may be missing.
            present: Modality -> (B,) bool.
            features: Modality -> (B, C) of the network's ``layers``; of a modality without, the picture alone tells.
            odd: Table -> B of what is odd about its cells, where these are known.
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
                own = features[name][rows] if name in features else None
                known = [odd[name][row] for row in rows.tolist()] if odd is not None and name in odd else None
                p[rows], texts = self._examine(one, name, inputs[name][rows], own, known)
                for row, several in zip(rows, texts, strict=True):
                    words[row] = several
            # NaN is never at most the rate.
            found[name] = ForeignFound(p, p * asked <= self.rate + 1e-9, words)
        return found

    def _examine(
        self,
        one: ForeignImages | ForeignTable,
        name: str,
        values: np.ndarray,
        features: np.ndarray | None,
        odd: Sequence[Odd] | None,
    ) -> tuple[np.ndarray, list[list[str]]]:
        if isinstance(one, ForeignTable):
            state = self.tables[name]
            words = [one.findings(row, state, None if odd is None else odd[k]) for k, row in enumerate(values)]
            return one.alarm.p_value(one.score(values)), words
        p, found = one.examine(Look.at(values, features))
        return p, [[str(finding) for finding in several] for several in found]


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
