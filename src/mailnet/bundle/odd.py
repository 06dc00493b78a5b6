"""What is plainly odd about a study: cells unlike any of training, and headers that contradict each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from mailnet.data.numeric import CLIP
from mailnet.data.table import TableState
from mailnet.data.values import canonical

if TYPE_CHECKING:
    from mailnet.data.dicom.owner import Owner

LISTED = 10  # columns of a table that are named


@dataclass(frozen=True)
class Odd:
    """Columns of one study's table.

    Args:
        unseen: Categorical ones with a value that no training study had, and that counts as unknown.
        far: Numeric ones whose value is so far from training's mean that it was brought nearer.
    """

    unseen: tuple[str, ...] = ()
    far: tuple[str, ...] = ()

    def words(self, *, ranged: bool) -> list[str]:
        """Return it in words that name columns and no values, at most ten columns.

        Args:
            ranged: The ranges of training are known, by which numbers are judged elsewhere and better.
        """
        found = [unseen_in_words(name) for name in self.unseen]
        if not ranged:
            found += [f"{name} is {CLIP:g} standard deviations or more from the mean of training" for name in self.far]
        return shortened(found)


def unseen_in_words(name: str) -> str:
    """Return the sentence on a column with a value that training has not seen."""
    return f"{name} has a value that no training study had"


def shortened(words: Sequence[str]) -> list[str]:
    """Return the first ten findings, and how many more columns there are."""
    left = len(words) - LISTED
    return [*words[:LISTED], *([f"{left} more columns are unlike in training studies"] if left > 0 else [])]


def odd_cells(
    state: TableState, texts: Mapping[str, Sequence[str]], features: Sequence[np.ndarray | None]
) -> list[Odd]:
    """Return what is odd about n studies.

    Args:
        state: Of the table.
        texts: Categorical column -> n cells as text, empty where missing.
        features: n arrays (F,) of the table's features, None where the study has no table.
    """
    known = {category.name: {*category.values, ""} for category in state.categorical}
    unseen = {name: [canonical(text) not in known[name] for text in texts[name]] for name in known}
    names = state.features
    numeric = set(state.numeric.names)
    places = np.array([k for k, name in enumerate(names) if name in numeric], dtype=int)
    found = []
    for row, values in enumerate(features):
        if values is None:
            found.append(Odd())
            continue
        far = places[np.abs(values[places]) >= CLIP]
        found.append(Odd(tuple(name for name in known if unseen[name][row]), tuple(names[k] for k in far)))
    return found


def odd_owners(owners: Mapping[str, Owner]) -> list[str]:
    """Return what the DICOM headers of one study contradict, naming modalities and keywords and no values.

    Args:
        owners: Modality -> what its header says.
    """
    found = [
        f"{name}: its DICOM header says another {key} than 'select' asks for"
        for name, owner in owners.items()
        for key in owner.unlike
    ]
    for first, second in combinations(owners, 2):
        if differing := owners[first].differs(owners[second]):
            which = ", ".join(differing)
            found.append(f"the DICOM headers of {first} and {second} are of different patients ({which})")
    return found
