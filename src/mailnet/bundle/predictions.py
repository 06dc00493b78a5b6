"""What a prediction returns."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mailnet.bundle.doubt import part_columns, parts_as_json
from mailnet.bundle.foreign import ForeignFound, found_as_json
from mailnet.bundle.reliability import set_as_json, set_in_words
from mailnet.errors import MailnetError
from mailnet.specs import TaskSpec
from mailnet.trust.uncertainty import Uncertainty


@dataclass(frozen=True)
class Predictions:
    """Probabilities of N studies.

    Args:
        ids: Identifiers, N of them.
        tasks: The tasks.
        probabilities: Task -> (N, K); rows sum to one unless the task is multilabel.
        absent: Modality -> (N,) True where the study did not have it.
        bad: One error for every study that was left out.
        sets: Task -> (N, K) bool, the answers in each prediction set, for multilabel (N, K, 2), absent and present;
            empty where the model has none.
        alpha: Chance that a set misses the true answer.
        answered: Task -> (N,) bool, the model is sure enough; of the tasks for which it has a threshold.
        foreign: Modality -> whether it is like those of training; empty where the model can't tell.
        odd: N lists of what is odd about a study without anything fitted, as a category that training has not seen.
        uncertainty: Task -> how unsure the model is; empty where that was not asked for.
    """

    ids: list[str]
    tasks: dict[str, TaskSpec]
    probabilities: dict[str, np.ndarray]
    absent: dict[str, np.ndarray]
    bad: list[MailnetError] = field(default_factory=list)
    sets: dict[str, np.ndarray] = field(default_factory=dict)
    alpha: float | None = None
    answered: dict[str, np.ndarray] = field(default_factory=dict)
    foreign: dict[str, ForeignFound] = field(default_factory=dict)
    odd: list[list[str]] = field(default_factory=list)
    uncertainty: dict[str, Uncertainty] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def labels(self, task: str) -> list[str]:
        """Return each study's predicted class; of a multilabel task the classes above one half, joined by ``|``."""
        spec, values = self.tasks[task], self.probabilities[task]
        if spec.kind == "multilabel":
            return ["|".join(name for name, p in zip(spec.classes, row, strict=True) if p > 0.5) for row in values]
        return [spec.classes[k] for k in values.argmax(1)]

    def foreign_modalities(self) -> list[list[str]]:
        """Return the modalities of each study that sound the alarm; a study with any of them is called foreign."""
        return [[name for name, one in self.foreign.items() if one.sounds[row]] for row in range(len(self))]

    def warnings(self) -> list[list[str]]:
        """Return all that is odd about each study, in words: ``MODALITY: ...``. It may hold the study's own numbers."""
        plain = self.odd or [[] for _ in self.ids]
        fitted = [[f"{name}: {text}" for name, one in self.foreign.items() for text in one.findings[row]]
                  for row in range(len(self))]  # fmt: skip
        return [list(dict.fromkeys(both)) for both in map(operator.add, fitted, plain)]

    def to_frame(self) -> pd.DataFrame:
        """Return one row a study: ``id``, per task ``<task>`` (the class) and ``<task>:<class>`` (its probability).

        Where there are prediction sets also ``<task>:set``, the answers joined by ``|``; of a multilabel task the
        labels present, those undecided with ``?``. Where there is a threshold also ``<task>:answered``, and where the
        model tells foreign studies ``foreign``, the modalities that sound the alarm joined by ``|``. Where uncertainty
        was asked for its parts as in ``predictions.parquet``, ``total:<task>`` and so on. Last ``warnings``, joined
        by ``; ``.
        """
        columns: dict[str, Any] = {"id": self.ids}
        if self.foreign:
            columns["foreign"] = ["|".join(names) for names in self.foreign_modalities()]
        for name, spec in self.tasks.items():
            columns[name] = self.labels(name)
            for k, label in enumerate(spec.classes):
                columns[f"{name}:{label}"] = self.probabilities[name][:, k]
            if name in self.sets:
                columns[f"{name}:set"] = [set_in_words(spec, members) for members in self.sets[name]]
            if name in self.answered:
                columns[f"{name}:answered"] = self.answered[name]
        if self.uncertainty:
            columns |= part_columns(self.tasks, self.uncertainty)
        columns["warnings"] = ["; ".join(words) for words in self.warnings()]
        return pd.DataFrame(columns)

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return one dict a study that JSON can hold: what its columns say, and which modalities are ``absent``."""
        warnings = self.warnings()
        labels = {name: self.labels(name) for name in self.tasks}
        return [
            {
                "id": study,
                "absent": [name for name, absent in self.absent.items() if absent[row]],
                **({"foreign": found_as_json(self.foreign, row)} if self.foreign else {}),
                "warnings": warnings[row],
                "tasks": {
                    name: {
                        "predicted": labels[name][row],
                        "probabilities": {
                            label: float(p)
                            for label, p in zip(spec.classes, self.probabilities[name][row], strict=True)
                        },
                        **({"set": set_as_json(spec, self.sets[name][row])} if name in self.sets else {}),
                        **({"answered": bool(self.answered[name][row])} if name in self.answered else {}),
                        **(
                            {"uncertainty": parts_as_json(spec, self.uncertainty[name], row)}
                            if name in self.uncertainty
                            else {}
                        ),
                    }
                    for name, spec in self.tasks.items()
                },
            }
            for row, study in enumerate(self.ids)
        ]
