"""Counting what prediction sets hold, by class and subgroup, over divisions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mailnet.specs import TaskSpec
from mailnet.trust.arrays import Array
from mailnet.trust.sets import EVERYBODY, ConformalSets
from mailnet.trust.theory import covered_interval

# Of a stratum, for which a promise holds by itself: its name, its tested studies (T,), its calibration studies.
Stratum = tuple[int | str, Array, int]


@dataclass(frozen=True)
class Cell:
    """Coverage and size of the sets of some studies.

    Args:
        coverage: Share of tested sets that hold the true answer, all divisions together.
        size: Mean number of answers in a set.
        single: Share of sets with one answer.
        tested: Mean number of sets tested in a division.
        lowest: Of the coverages of single divisions, the 2.5% quantile.
        highest: Of them, the 97.5% quantile.
        low: Of the interval in which ``coverage`` lies, with the stated level, if the promise is kept exactly; None
            where nothing is promised for these studies by themselves.
        high: Likewise.
    """

    coverage: float
    size: float
    single: float
    tested: float
    lowest: float
    highest: float
    low: float | None = None
    high: float | None = None

    @property
    def kept(self) -> bool | None:
        """Whether the coverage is not below the interval: the promise is kept. None where nothing is promised."""
        return None if self.low is None else self.coverage >= self.low

    @property
    def inside(self) -> bool | None:
        """Whether it lies in the interval.

        Above it are sets that are larger than they need be: filled empty ones of a network that is right more often
        than is asked, and those of scores with ties, as deterministic APS has.
        """
        return None if self.low is None or self.high is None else self.low <= self.coverage <= self.high

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "kept": self.kept, "inside": self.inside}


@dataclass
class _Sums:
    hits: int = 0
    tested: int = 0
    size: int = 0
    single: int = 0
    shares: list[float] = field(default_factory=list)
    trials: Counter[tuple[int, int]] = field(default_factory=Counter)

    def cell(self, alpha: float, level: float) -> Cell:
        """Return the shares of what was counted."""
        low, high = covered_interval(self.trials, alpha, level) if self.trials else (None, None)
        lowest, highest = np.quantile(self.shares, [0.025, 0.975])
        return Cell(
            coverage=self.hits / self.tested,
            size=self.size / self.tested,
            single=self.single / self.tested,
            tested=self.tested / len(self.shares),
            lowest=float(lowest),
            highest=float(highest),
            low=low,
            high=high,
        )


class Tally:
    """The counts of every cell.

    Args:
        spec: The task.
        answers: (N, P), -1 where unknown.
        by: None, ``class`` or (N,) groups as texts.
        columns: Column of a subgroup -> (N,) texts.
    """

    def __init__(self, spec: TaskSpec, answers: Array, by: str | Array | None, columns: Mapping[str, Array]) -> None:
        self.spec, self.answers, self.by, self.columns = spec, answers, by, columns
        self.sums: dict[tuple[str, ...], _Sums] = defaultdict(_Sums)

    def add(self, members: Array, there: Array, calibration: Array | ConformalSets | None) -> None:
        """Count one division.

        Args:
            members: (T, K) or (T, K, 2), as ``ConformalSets.predict`` gives them.
            there: (T,) rows of the tested studies.
            calibration: Rows of the studies that calibrated, or the sets, which know how many; None where the theory
                does not apply.
        """
        answers = members if self.spec.kind == "multilabel" else members[:, None]
        truth = self.answers[there]
        known = truth >= 0
        hit = np.take_along_axis(answers, np.maximum(truth, 0)[..., None], axis=-1)[..., 0]
        size = answers.sum(-1)
        for key, mask, strata in self._cells(there, truth, known, calibration):
            tested = int(mask.sum())
            if not tested:
                continue
            sums = self.sums[key]
            hits = int(hit[mask].sum())
            sums.hits += hits
            sums.tested += tested
            sums.size += int(size[mask].sum())
            sums.single += int((size[mask] == 1).sum())
            sums.shares.append(hits / tested)
            sums.trials.update((n, int(rows.sum())) for _, rows, n in strata if rows.any())

    def cells(self, alpha: float, level: float, *key: str) -> dict[str, Cell]:
        """Return the cells whose name starts with ``key``, by the rest of their name."""
        return {name[-1]: sums.cell(alpha, level) for name, sums in self.sums.items() if name[:-1] == key}

    def _cells(
        self, there: Array, truth: Array, known: Array, calibration: Array | ConformalSets | None
    ) -> Iterator[tuple[tuple[str, ...], Array, list[Stratum]]]:
        several = self.spec.kind == "multilabel"
        strata = [self._strata(p, there, truth[:, p], calibration) for p in range(truth.shape[1])]
        yield ("overall",), known, [] if several else strata[0]
        for p, name in enumerate(self.spec.classes):
            if several:
                alone = np.arange(truth.shape[1]) == p
                yield ("labels", name), known & alone, strata[p]
                for k, answer in enumerate(("absent", "present")):
                    own = strata[p][k : k + 1] if isinstance(self.by, str) else []
                    yield ("classes", f"{name}: {answer}"), (truth == k) & alone, own
            else:
                yield ("classes", name), truth == p, strata[0][p : p + 1] if isinstance(self.by, str) else []
        if self.by is not None and not isinstance(self.by, str):
            for group, rows, n in strata[0]:
                mask = known & (self.by[there] == group)[:, None]
                yield ("groups", str(group)), mask, [] if several else [(group, rows, n)]
        for column, values in self.columns.items():
            for value in np.unique(values[values != ""]).tolist():
                yield ("subgroups", column, value), known & (values[there] == value)[:, None], []

    def _strata(self, p: int, there: Array, truth: Array, calibration: Array | ConformalSets | None) -> list[Stratum]:
        if calibration is None:
            return []
        given = isinstance(calibration, ConformalSets)
        before = np.zeros(0, int) if isinstance(calibration, ConformalSets) else self.answers[calibration, p]
        table = calibration.patients if isinstance(calibration, ConformalSets) else {}
        if self.by is None:
            return [(EVERYBODY, truth >= 0, table[EVERYBODY][p][0] if given else int((before >= 0).sum()))]
        if isinstance(self.by, str):
            size = 2 if self.spec.kind == "multilabel" else len(self.spec.classes)
            return [(k, truth == k, table[EVERYBODY][p][k] if given else int((before == k).sum())) for k in range(size)]
        strata: list[Stratum] = []
        for group in np.unique(self.by[there]).tolist():
            if isinstance(calibration, ConformalSets):
                n = table[group][p][0] if group in table else 0
            else:
                n = int(((before >= 0) & (self.by[calibration] == group)).sum())
            strata.append((group, (truth >= 0) & (self.by[there] == group), n))
        return strata
