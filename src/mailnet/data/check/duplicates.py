"""The same or nearly the same image on two sides of a split, or under two labels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from mailnet.data.check.findings import Finding
from mailnet.data.check.pictures import Pictures
from mailnet.data.check.similar import similar_pairs, turned_pairs
from mailnet.data.config import SPLITS

# A label is doubted only where two pictures are copies almost surely.
SURE = 0.98
# Mirror images are sought among so many pictures, drawn at random where there are more.
MOST_TURNED = 20_000
_MOVE = "Keep it in one split, or give these studies one group"
_LABEL = "Look at the pairs and correct the labels, or leave such studies out"


def find_duplicates(
    name: str, pictures: Pictures, splits: np.ndarray, labels: dict[str, np.ndarray]
) -> Iterator[Finding]:
    """Yield what is wrong with images that stand in the study more than once.

    Args:
        name: The modality.
        pictures: Its images.
        splits: (N,) int, number of the split of every row; -1 where unknown.
        labels: Task -> (N,) int, -1 where unknown.
    """
    rows = pictures.usable
    rows = rows[(splits[rows] >= 0) & ~pictures.constant[pictures.file[rows]]]
    if len(rows) < 2:
        return
    _, picture = np.unique(pictures.digest[pictures.file[rows]], return_inverse=True)
    same = _same(rows, picture.reshape(-1), splits)
    if len(same):
        yield _leak("exact-duplicates", "the very same picture is in two splits", name, same, splits)
    near, shares = _near(rows, picture.reshape(-1), pictures, splits, labels)
    across = splits[near[:, 0]] != splits[near[:, 1]]
    if across.any():
        order = np.argsort(-shares[across], kind="stable")
        text = "nearly the same picture (resized, recompressed or cut a little) is in two splits"
        yield _leak("near-duplicates", text, name, near[across][order], splits)
    turned, shares_turned = _turned(rows, picture.reshape(-1), pictures, splits, near[across])
    if len(turned):
        text = "a picture and its mirror image, or one upside down, are in two splits"
        yield _leak("turned-duplicates", text, name, turned[np.argsort(-shares_turned, kind="stable")], splits)
    alike = [_same(rows, picture.reshape(-1), values) for values in labels.values()]
    for (task, values), exact in zip(labels.items(), alike, strict=True):
        both = (values[near] >= 0).all(axis=1) & (values[near[:, 0]] != values[near[:, 1]]) & (shares >= SURE)
        pairs = np.concatenate([exact, near[both]])
        if len(pairs):
            yield Finding(
                "caution",
                "two-labels",
                f"{_count(len(pairs))} of the same or nearly the same picture with two different labels",
                _LABEL,
                modality=name,
                task=task,
                numbers={"pairs": len(pairs), "identical": len(exact)},
                places=pairs,
            )


def _same(rows: np.ndarray, picture: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return (m, 2) rows of one picture with two values: each row that differs from the first, beside the first."""
    known = values[rows] >= 0
    table = pd.DataFrame({"row": rows[known], "picture": picture[known], "value": values[rows[known]]})
    table = table.sort_values(["picture", "value", "row"], kind="stable")
    first = table.groupby("picture")[["row", "value"]].transform("first")
    other = (first["value"] != table["value"]).to_numpy()
    return np.stack([first["row"].to_numpy()[other], table["row"].to_numpy()[other]], axis=1)


def _near(
    rows: np.ndarray, picture: np.ndarray, pictures: Pictures, splits: np.ndarray, labels: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return (m, 2) rows of two nearly equal pictures that differ in split or label, and how equal they are."""
    marks = np.stack([splits[rows], *(values[rows] for values in labels.values())], axis=1)
    # One row stands for all of the same picture, split and labels.
    _, chosen, alike = np.unique(np.column_stack([picture, marks]), axis=0, return_index=True, return_inverse=True)
    everyone, alike = rows, alike.reshape(-1)
    rows, picture, marks = rows[chosen], picture[chosen], marks[chosen]

    def wanted(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        differ: np.ndarray = ((marks[a] != marks[b]) & (marks[a] >= 0) & (marks[b] >= 0)).any(axis=1)
        return np.asarray(differ & (picture[a] != picture[b]))

    pairs, shares = similar_pairs(pictures.thumbnail, pictures.file[rows], wanted)
    # The training study stands first, and beside it in turn all that the other stands for.
    turn = splits[rows[pairs[:, 0]]] > splits[rows[pairs[:, 1]]]
    pairs[turn] = pairs[turn][:, ::-1]
    order, counts = np.argsort(alike, kind="stable"), np.bincount(alike, minlength=len(rows))
    starts, several = np.cumsum(counts) - counts, counts[pairs[:, 1]]
    step = np.arange(several.sum()) - np.repeat(np.cumsum(several) - several, several)
    others = everyone[order[np.repeat(starts[pairs[:, 1]], several) + step]]
    return np.stack([rows[np.repeat(pairs[:, 0], several)], others], axis=1), np.repeat(shares, several)


def _turned(
    rows: np.ndarray, picture: np.ndarray, pictures: Pictures, splits: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (m, 2) rows of a picture and its mirror image in two splits, the earlier first, and how equal they are.

    Args:
        rows: (n,) the rows to look at.
        picture: (n,) number of the picture of each.
        pictures: The images.
        splits: (N,) int, number of the split of every row.
        known: (k, 2) pairs of rows that are copies as they are, which are not told again.
    """
    _, chosen = np.unique(np.column_stack([picture, splits[rows]]), axis=0, return_index=True)
    if len(chosen) > MOST_TURNED:
        chosen = np.random.default_rng(0).choice(chosen, MOST_TURNED, replace=False)
    rows, picture = rows[chosen], picture[chosen]

    def wanted(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        apart: np.ndarray = (splits[rows[a]] != splits[rows[b]]) & (picture[a] != picture[b])
        return apart

    pairs, shares = turned_pairs(pictures.thumbnail[pictures.file[rows]], wanted)
    found = rows[pairs]
    late = splits[found[:, 0]] > splits[found[:, 1]]
    found[late] = found[late][:, ::-1]
    told = {tuple(pair) for pair in known.tolist()}
    new = np.array([tuple(pair) not in told for pair in found.tolist()], dtype=bool)
    return found[new], shares[new]


def _leak(kind: str, text: str, name: str, pairs: np.ndarray, splits: np.ndarray) -> Finding:
    numbers: dict[str, int | float | str] = {"pairs": len(pairs)}
    parts = []
    for k, split in enumerate(SPLITS[1:], start=1):
        hit = len(np.unique(pairs[:, 1][splits[pairs[:, 1]] == k]))
        if hit:
            whole = int((splits == k).sum())
            numbers[split] = hit
            parts.append(f"{hit} of {whole} {split} studies")
    message = f"{text}: {_count(len(pairs))}, with {' and '.join(parts)}"
    return Finding("leak", kind, message, _MOVE, modality=name, numbers=numbers, places=pairs)


def _count(pairs: int) -> str:
    return "1 pair" if pairs == 1 else f"{pairs} pairs"
