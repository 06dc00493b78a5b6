"""``slice: all``: each plane of a file becomes a study of its own, in the group of the row that it comes from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mailnet.data.cells import Cells
from mailnet.data.columns import TEXT
from mailnet.data.config import ImageConfig, StudyConfig
from mailnet.data.images import count_planes
from mailnet.data.paths import names_file
from mailnet.data.progress import progress
from mailnet.errors import DataError


def expand_planes(frame: pd.DataFrame, cells: Cells, config: StudyConfig) -> pd.DataFrame:
    """Return the frame with a row a plane where ``slice: all`` asks for it, numbered from 0 in path and id.

    All else of a row is repeated: its number, group, labels, and the other modalities. A file that cannot be read
    counts as one plane, so that decoding it reports it with its place.

    Args:
        frame: ``Manifest.frame`` with a row a row of the tables.
        cells: Takes the problem that files of one row have different numbers of planes.
        config: The study.
    """
    sections = {
        name: modality
        for name, modality in config.modalities.items()
        if isinstance(modality, ImageConfig) and modality.slice == "all"
    }
    if not sections:
        return frame
    counts = {name: _counts(frame[f"path:{name}"], name, section) for name, section in sections.items()}
    most = np.stack(list(counts.values())).max(axis=0)
    for name, own in counts.items():
        for other, theirs in counts.items():
            for row in np.flatnonzero((own > 0) & (own < theirs) & (theirs == most)):
                cells.problem(
                    f"has {own[row]} planes of '{name}' and {theirs[row]} of '{other}'",
                    row=int(row),
                    remedy="With 'slice: all' the files of a study must have as many planes: choose one by 'slice'",
                )
    expanded = np.asarray(np.stack([names_file(frame[f"path:{name}"]) for name in sections]).any(axis=0))
    repeats = np.where(expanded, np.maximum(most, 1), 1)
    rows = np.repeat(np.arange(len(frame)), repeats)
    planes = pd.Series(np.arange(len(rows)) - np.repeat(np.cumsum(repeats) - repeats, repeats)).astype(TEXT)
    result = frame.take(rows).reset_index(drop=True)
    result["id"] = result["id"].where(~expanded[rows], result["id"] + " slice " + planes)
    for name in sections:
        path = result[f"path:{name}"]
        result[f"path:{name}"] = path.where(~names_file(path), path + "!slice/" + planes)
    return result


def _counts(paths: pd.Series[Any], name: str, section: ImageConfig) -> np.ndarray:
    """Return the number of planes of every file, 0 where there is none or it cannot be read."""
    wanted = names_file(paths)
    known: dict[str, int] = {"": 0}
    with progress(f"{name}: counting planes", int(wanted.sum())) as advance:
        for path in paths[wanted]:
            if path not in known:
                try:
                    known[path] = count_planes(path, section)
                except DataError:
                    known[path] = 0
            advance(1)
    return np.array([known.get(path, 0) for path in paths], dtype=np.int64)
