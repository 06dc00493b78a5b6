"""Which features a column of a table became, and what an ordinary study has in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mailnet.data.table import TableState

MISSING = " missing"


def column_features(state: TableState) -> dict[str, list[int]]:
    """Return column -> positions of its features: a number with its missing flag, a category with all its values.

    A flag that several columns share is a column of its own, by its own name.

    Args:
        state: Of the table, as a bundle holds it.
    """
    groups: dict[str, list[int]] = {}
    numeric = state.numeric.features
    for place, feature in enumerate(numeric):
        owner = feature.removesuffix(MISSING)
        groups.setdefault(owner if owner in state.numeric.names else feature, []).append(place)
    place = len(numeric)
    for category in state.categorical:
        count = len(category.values) + 1
        groups.setdefault(category.name, []).extend(range(place, place + count))
        place += count
    return groups


def typical_row(features: Tensor, columns: Mapping[str, Sequence[int]]) -> Tensor:
    """Return the features (F,) of an ordinary study: of numbers the median, of a category the most frequent value.

    Args:
        features: (N, F) of the training studies that have the table.
        columns: From ``column_features``.

    Raises:
        ValueError: No study.
    """
    if not len(features):
        raise ValueError("no study has the table")
    row = features.median(0).values
    for places in columns.values():
        own = features[:, list(places)]
        if len(places) > 1 and bool(((own == 0) | (own == 1)).all()) and bool((own.sum(1) == 1).all()):
            row[list(places)] = torch.nn.functional.one_hot(own.sum(0).argmax(), len(places)).to(row)
    return row
