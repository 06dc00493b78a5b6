"""Columns of paths, located together: a folder is judged once, not every file in it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mailnet.data.columns import distinct, text_of
from mailnet.data.locations import Locator, split_location, split_plane
from mailnet.errors import DataError

# Names below a folder that mean what they say: no '.' or '..', no '!' of a member or a plane, nothing absolute.
_PLAIN = r"^[^/.!\\\x00][^/!\\\x00]*(/[^/.!\\\x00][^/!\\\x00]*)*$"
# Files that a folder must have on average for its listing to be quicker than looking at each.
_SHARED = 8
# Rows that are judged one by one before what was learnt of their folders is forgotten.
_PIECE = 2**16


def locate_all(texts: pd.Series[Any], folders: pd.Categorical[Any], locator: Locator) -> pd.Series[Any]:
    """Return where files lie as ``Locator.locate`` says of each, empty where it refuses one.

    Args:
        texts: Paths as a table has them (N,), empty where absent.
        folders: What each is relative to (N,).
        locator: Of the data root.
    """
    names = [str(folder) for folder in folders.categories]
    trusted = np.zeros(len(texts), dtype=bool)
    plain = np.asarray(pc.match_substring_regex(pa.array(texts.array), _PLAIN))
    for place, folder in enumerate(names):
        rows = np.flatnonzero(plain & (folders.codes == place))
        if len(rows):
            trusted[rows] = _trusted(texts.iloc[rows], folder, locator)
    starts = text_of(_start(folder) for folder in names)
    located = starts.take(folders.codes).reset_index(drop=True) + texts
    absent = (texts == "").to_numpy()
    located = located.mask(absent, "")
    single = np.flatnonzero(~trusted & ~absent)
    pieces = []
    for start in range(0, len(single), _PIECE):
        # What a locator remembers of folders is let go with it.
        judge = Locator(locator.root)
        paths = []
        rows = single[start : start + _PIECE]
        for text, code in zip(texts.iloc[rows].tolist(), folders.codes[rows].tolist(), strict=True):
            try:
                paths.append(judge.locate(text, names[code]))
            except DataError:
                paths.append("")
        pieces.append(text_of(paths))
    if pieces:
        located.iloc[single] = pd.concat(pieces).array
    return located


def relative_all(locations: pd.Series[Any], locator: Locator) -> pd.Series[Any]:
    """Return located paths as seen from the root, as ``Locator.relative`` does each."""
    start = locator.root.rstrip(os.sep) + os.sep
    inner = locations.str.removeprefix(start).str.replace(f"!largest/{start}", "!largest/", regex=False)
    return inner if os.sep == "/" else inner.str.replace(os.sep, "/", regex=False)


def names_file(paths: pd.Series[Any]) -> np.ndarray:
    """Return (N,) bool: the cell names a file, and no plane of it."""
    return np.array([path != "" and split_plane(path)[1] is None for path in paths], dtype=bool)


def _start(folder: str) -> str:
    """Return what goes before a plain name to locate it."""
    file, inside = split_location(folder)
    if inside is None:
        return os.path.join(folder, "")
    return f"{file}!{inside}/" if inside else f"{file}!"


def _trusted(texts: pd.Series[Any], folder: str, locator: Locator) -> np.ndarray:
    """Return which of the plain paths are sure to stay below the root, since no link is on their way."""
    nothing = np.zeros(len(texts), dtype=bool)
    if os.sep != "/" or not os.path.isabs(folder) or os.path.normpath(folder) != folder:
        return nothing
    if split_location(folder)[1] is not None:
        # In an archive there are no links to follow.
        return ~nothing if _stays("x", folder, locator) else nothing
    places, parents = distinct(texts.str.replace(r"/?[^/]*$", "", regex=True))
    if len(parents) * _SHARED > len(texts):
        return nothing
    good = np.zeros(len(parents), dtype=bool)
    links: list[str] = []
    for k, parent in enumerate(parents):
        if not _stays(parent or ".", folder, locator):
            continue
        try:
            with os.scandir(os.path.join(folder, parent)) as entries:
                links += [os.path.join(parent, entry.name) for entry in entries if entry.is_symlink()]
        except FileNotFoundError:
            pass
        except OSError:
            continue
        good[k] = True
    trusted: np.ndarray = good[places]
    return trusted & ~texts.isin(links).to_numpy() if links else trusted


def _stays(text: str, folder: str, locator: Locator) -> bool:
    try:
        locator.locate(text, folder)
    except DataError:
        return False
    return True
