"""Whether a study is like those that a model has learned from, modality by modality; without torch.

What is kept are means, covariances and rounded ranges of training studies, and how often validation studies reach each
rounded score. Distances to neighbours would have to keep the features of single patients: these are Mahalanobis'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mailnet.bundle.foreign_images import ForeignImages, Look
from mailnet.bundle.foreign_pair import ForeignPair
from mailnet.bundle.foreign_table import ForeignTable
from mailnet.bundle.odd import Odd
from mailnet.data.table import TableState
from mailnet.trust.alarm import Alarm
from mailnet.trust.scores import patients_needed

RATE = 0.05


@dataclass(frozen=True)
class ForeignFound:
    """What is found in a modality of N studies, or in two of them beside each other.

    Args:
        p: (N,) chance that a study like those of validation is at least as foreign; NaN where the modality is absent.
        sounds: (N,) bool, it is called foreign: p times the number of alarms that the study is given to is at most the
            rate.
        findings: N lists of what is plainly odd, in words, whether or not the alarm sounds.
    """

    p: np.ndarray
    sounds: np.ndarray
    findings: list[list[str]]


@dataclass(frozen=True)
class Foreign:
    """A warning a modality, and one a study: any of its modalities'.

    Alarms share the rate evenly (Bonferroni over those that a study is given to, by the modalities that it has), so at
    most ``rate`` of studies like those of validation are called foreign, whatever depends on what.

    Args:
        modalities: Those that had training studies to learn from.
        rate: Rate of false alarms, of a study.
        tables: State of each table among them.
        pairs: Of modalities whose images tell whether they are of one patient.
    """

    modalities: dict[str, ForeignImages | ForeignTable]
    rate: float = RATE
    tables: Mapping[str, TableState] = field(default_factory=dict)
    pairs: tuple[ForeignPair, ...] = ()

    @property
    def needs_features(self) -> bool:
        """Whether it asks for the network's features."""
        return any(self.layers.values())

    @property
    def layers(self) -> dict[str, tuple[int, ...]]:
        """Image or volume -> places of the layers whose features it asks for."""
        return {name: one.layers for name, one in self.modalities.items() if isinstance(one, ForeignImages)}

    @property
    def alarms(self) -> dict[str, Alarm]:
        """All of them, of modalities and pairs, by their names."""
        return {name: one.alarm for name, one in self.modalities.items()} | {one.name: one.alarm for one in self.pairs}

    def reason(self, name: str) -> str:
        """Why an alarm never sounds in a study that has all modalities; empty where it can."""
        alarms = self.alarms
        least, own = patients_needed(self.rate / len(alarms)), alarms[name].patients
        return "" if own >= least else f"{own} validation patients have it, {least} are needed"

    def examine(
        self,
        inputs: Mapping[str, np.ndarray],
        present: Mapping[str, np.ndarray],
        features: Mapping[str, np.ndarray],
        odd: Mapping[str, Sequence[Odd]] | None = None,
    ) -> dict[str, ForeignFound]:
        """Return modality, and name of a pair -> what is found in B studies.

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
        both = {pair.name: np.intersect1d(have[pair.first], have[pair.second]) for pair in self.pairs}
        asked = np.zeros(count)
        for rows in (*have.values(), *both.values()):
            asked[rows] += 1
        found, looks = {}, {}
        for name, one in self.modalities.items():
            rows, p = have[name], np.full(count, np.nan)
            words: list[list[str]] = [[] for _ in range(count)]
            if len(rows) and isinstance(one, ForeignTable):
                known = [odd[name][row] for row in rows.tolist()] if odd is not None and name in odd else None
                p[rows], texts = self._table(one, name, inputs[name][rows], known)
            elif len(rows) and isinstance(one, ForeignImages):
                looks[name] = Look.at(inputs[name][rows], features[name][rows] if name in features else None)
                p[rows], plain = one.examine(looks[name])
                texts = [[str(finding) for finding in several] for several in plain]
            for row, several in zip(rows.tolist(), texts if len(rows) else [], strict=True):
                words[row] = several
            # NaN is never at most the rate.
            found[name] = ForeignFound(p, p * asked <= self.rate + 1e-9, words)
        for pair in self.pairs:
            rows, p = both[pair.name], np.full(count, np.nan)
            if len(rows):
                pictures = [
                    looks[name].picture[np.searchsorted(have[name], rows)] for name in (pair.first, pair.second)
                ]
                p[rows] = pair.p_value(*pictures)
            sounds = p * asked <= self.rate + 1e-9
            found[pair.name] = ForeignFound(p, sounds, [[pair.words] if sound else [] for sound in sounds])
        return found

    def _table(
        self, one: ForeignTable, name: str, values: np.ndarray, odd: Sequence[Odd] | None
    ) -> tuple[np.ndarray, list[list[str]]]:
        state = self.tables[name]
        words = [one.findings(row, state, None if odd is None else odd[k]) for k, row in enumerate(values)]
        return one.alarm.p_value(one.score(values)), words


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
