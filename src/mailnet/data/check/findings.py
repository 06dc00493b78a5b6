"""What a check found: problems, leaks and cautions, with the rows concerned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from mailnet.errors import MailnetError

Number = int | float | str


@dataclass(frozen=True, eq=False)
class Finding:
    """Something that training does not stop at, but that spoils its results or that their reader should know.

    Args:
        severity: ``leak``: results on the test studies will be too good; ``caution``: good to know.
        kind: Short name of what was looked for, such as ``near-duplicates``.
        message: What was seen, with its numbers.
        remedy: What to do about it.
        modality: Name of the modality concerned.
        task: Name of the task concerned.
        column: Column of the table concerned.
        numbers: What was measured.
        places: (n, k) int, positions in the manifest's frame: n cases of k studies each.
    """

    severity: Literal["leak", "caution"]
    kind: str
    message: str
    remedy: str
    modality: str | None = None
    task: str | None = None
    column: str | None = None
    numbers: dict[str, Number] = field(default_factory=dict)
    places: np.ndarray = field(default_factory=lambda: np.zeros((0, 1), np.int64))

    def __str__(self) -> str:
        where = [("modality", self.modality), ("task", self.task), ("column", self.column)]
        place = ", ".join(f"{label} {value}" for label, value in where if value is not None)
        return f"{f'{place}: ' if place else ''}{self.message.rstrip('.')}. {self.remedy.rstrip('.')}."

    def as_dict(self) -> dict[str, Any]:
        """Return what is set, without the places, which mean something beside the manifest only."""
        keys = ("severity", "kind", "message", "remedy", "modality", "task", "column", "numbers")
        return {key: value for key in keys if (value := getattr(self, key))}


@dataclass
class CheckReport:
    """What a study holds and what is wrong with it.

    Args:
        problems: Errors that training would stop at, each with its place and remedy.
        findings: Leaks and cautions, the leaks first.
        studies: Number of rows of the manifest.
        groups: Number of patients, or of rows where no column names the patient.
        splits: Split -> number of studies.
        classes: Task -> class -> split -> number of studies.
        present: Modality -> split -> number of studies that have it.
        sizes: Image modality -> "height x width" of its files, the most frequent first -> number of files.
        unjudged: Columns of text that were not tried against the labels, since nearly every value is its own.
        rows: Of every study, its row in the tables (``row``), its name (``id``), its ``split`` and its images
            (``path:<modality>``).
    """

    problems: list[MailnetError] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    studies: int = 0
    groups: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    classes: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    present: dict[str, dict[str, int]] = field(default_factory=dict)
    sizes: dict[str, dict[str, int]] = field(default_factory=dict)
    unjudged: list[str] = field(default_factory=list)
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def ok(self) -> bool:
        """True where nothing stops training."""
        return not self.problems

    @property
    def leaks(self) -> list[Finding]:
        """What makes results too good."""
        return [finding for finding in self.findings if finding.severity == "leak"]

    @property
    def cautions(self) -> list[Finding]:
        """What a reader of the results should know."""
        return [finding for finding in self.findings if finding.severity == "caution"]

    @property
    def status(self) -> int:
        """2 where something stops training, else 1 where there is a leak, else 0."""
        return 2 if self.problems else 1 if self.leaks else 0

    def names(self, place: Sequence[int] | np.ndarray) -> list[str]:
        """Return how studies are called, each with its split."""
        rows = self.rows.iloc[list(place)]
        return [f"{name} ({split})" for name, split in zip(rows["id"], rows["split"], strict=True)]

    def numbered(self, finding: Finding) -> list[list[int]]:
        """Return the cases of a finding as rows of the tables, counted from 1, by which no patient is named."""
        numbers = self.rows["row"].to_numpy(dtype=np.int64) if len(self.rows) else np.zeros(0, np.int64)
        cases: list[list[int]] = numbers[finding.places].tolist()
        return cases

    def as_dict(self, named: bool = True) -> dict[str, Any]:
        """Return the report as plain values that JSON can hold.

        Args:
            named: Name studies and files; otherwise only rows, as for a file that is passed on.
        """
        return {
            "status": self.status,
            "ok": self.ok,
            "problems": [problem.as_dict() if named else nameless(problem) for problem in self.problems],
            "leaks": [self._with_cases(finding, named) for finding in self.leaks],
            "cautions": [self._with_cases(finding, named) for finding in self.cautions],
            "studies": self.studies,
            "groups": self.groups,
            "splits": self.splits,
            "classes": self.classes,
            "present": self.present,
            "sizes": self.sizes,
            "unjudged": self.unjudged,
        }

    def _with_cases(self, finding: Finding, named: bool) -> dict[str, Any]:
        found = finding.as_dict()
        if len(finding.places):
            found["rows"] = self.numbered(finding)
            if named:
                ids = self.rows["id"].astype(str).to_numpy(dtype=object)
                found["studies"] = ids[finding.places].tolist()
        return found


def nameless(problem: MailnetError) -> dict[str, str]:
    """Return a problem without its study, file and values: its modality, task and remedy, which name nobody."""
    keys = ("remedy", "modality", "task")
    return {key: value for key in keys if (value := getattr(problem, key)) is not None}
