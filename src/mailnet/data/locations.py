"""Where a file of the data lies: a path, ``set.zip!member`` or ``file.npz!array/INDEX``, never outside the root.

Behind any of them ``!slice/NUMBER`` or ``!largest/MASK`` may name a plane of a volume.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from mailnet.errors import DataError

_PLANE = re.compile(r"(.+?)!(slice/\d+|largest/.+)", re.DOTALL)
_ARCHIVE = re.compile(r"(.*?\.(?:zip|npz))!(.*)", re.IGNORECASE | re.DOTALL)


def split_location(location: str) -> tuple[str, str | None]:
    """Return the file and the member inside it, None where the location is a plain file.

    >>> split_location("a/set.zip!images/1.png")
    ('a/set.zip', 'images/1.png')
    """
    match = _ARCHIVE.fullmatch(location)
    return (match[1], match[2]) if match else (location, None)


def split_plane(location: str) -> tuple[str, str | None]:
    """Return the file and the plane of it, None where the location names none.

    The plane is ``slice/NUMBER``, from 0, or ``largest/MASK``, the one with the largest area of the mask at that place.

    >>> split_plane("a/ct.nii.gz!slice/12")
    ('a/ct.nii.gz', 'slice/12')
    """
    match = _PLANE.fullmatch(location)
    return (match[1], match[2]) if match else (location, None)


def folder_of(location: str) -> str:
    """Return what the paths in a table at ``location`` are relative to; inside an archive where the table is."""
    file, member = split_location(location)
    if member is not None:
        return f"{file}!{posixpath.dirname(member)}"
    # A table that is a whole npz names the arrays in it.
    return f"{file}!" if file.lower().endswith(".npz") else os.path.dirname(file)


class Locator:
    """Resolves the paths that a manifest holds, and refuses those that leave the data root.

    Args:
        root: The data root; symbolic links in it are followed before a path is judged.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = os.path.abspath(root)
        self._real_root = os.path.realpath(self.root)
        self._real_folders: dict[str, str] = {}

    def locate(self, text: str, folder: str | None = None) -> str:
        """Return the absolute location of ``text``, which is relative to ``folder`` (default: the root).

        Raises:
            DataError: The location lies outside the data root, or a member path outside its archive.
        """
        whole, plane = split_plane(text.replace("\\", "/"))
        if plane is not None:
            kind, _, rest = plane.partition("/")
            rest = self.locate(rest, folder) if kind == "largest" else rest
            return f"{self.locate(whole, folder)}!{kind}/{rest}"
        file, member = split_location(whole)
        base, inside = split_location(self.root if folder is None else folder)
        if member is None and inside is not None:
            file, member = base, posixpath.join(inside, file)
        elif inside is not None:
            file = os.path.join(os.path.dirname(base), file)
        path = os.path.normpath(os.path.join(base, file))
        if not self._below_root(path):
            raise DataError(
                f"the path leaves the data root {self.root}",
                file=text,
                remedy="Move the file below the data root, or set data_root (--data-root) to a folder above both",
            )
        if member is None:
            return path
        member = posixpath.normpath(member)
        if member.startswith(("../", "/")) or member in ("..", "."):
            raise DataError("the path leaves its archive", file=text, remedy="Give a member of the archive")
        return f"{path}!{member}"

    def relative(self, location: str) -> str:
        """Return a located path as seen from the root, the same on every machine."""
        prefix = self.root.rstrip(os.sep) + os.sep
        # The second path is that of a mask.
        return location.removeprefix(prefix).replace(f"!largest/{prefix}", "!largest/").replace(os.sep, "/")

    def _below_root(self, path: str) -> bool:
        folder, name = os.path.split(path)
        if folder not in self._real_folders:
            self._real_folders[folder] = os.path.realpath(folder)
        real = os.path.join(self._real_folders[folder], name)
        if os.path.islink(real):
            real = os.path.realpath(real)
        return real == self._real_root or real.startswith(self._real_root.rstrip(os.sep) + os.sep)
