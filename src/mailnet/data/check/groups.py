"""Patients on two sides of a split, named by a column that the study does not use."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from mailnet.data.check.findings import Finding
from mailnet.data.columns import distinct

PATIENT = re.compile(
    r"(patient|subject|case|lesion|person|participant|mrn|pid|medical[ _.-]?record|pat)"
    r"([ _.-]?(id|ids|nr|no|num|number|code|key|mrn))?",
    re.IGNORECASE,
)
# Where patients are named, a number of a lesion or case that two of them share was only counted anew for each.
WITHIN = ("lesion", "case")


def judge_groups(columns: Mapping[str, pd.Series], splits: np.ndarray, grouped: bool) -> Iterator[Finding]:
    """Yield columns that by their name hold patients, some of them on two sides of the split.

    Args:
        columns: Name -> cells of all rows, as text; those that the study uses as group left out.
        splits: (N,) int, number of the split of every row; -1 where unknown.
        grouped: The study names its patients by another column.
    """
    for name, cells in columns.items():
        known = PATIENT.fullmatch(name.strip())
        if not known or (grouped and known[1].lower() in WITHIN):
            continue
        codes, values = distinct(cells)
        rows = np.flatnonzero((splits >= 0) & np.array([*(value != "" for value in values), False], bool)[codes])
        pairs = np.unique(np.stack([codes[rows], splits[rows]], axis=1), axis=0)
        found, sides = np.unique(pairs[:, 0], return_counts=True)
        both = found[sides > 1]
        if not len(both):
            continue
        tested = rows[(splits[rows] > 0) & np.isin(codes[rows], both)]
        test_values = np.unique(codes[rows[splits[rows] > 0]])
        yield Finding(
            "leak",
            "group-in-two-splits",
            f"looks like the patients, and {len(both)} of its {len(test_values)} values among validation and test "
            f"studies are on two sides of the split, with {len(tested)} studies",
            f"Set 'group: {name}' and have the groups divided, or correct the split",
            column=name,
            numbers={"values": len(both), "studies": len(tested)},
            places=tested[:, None],
        )
