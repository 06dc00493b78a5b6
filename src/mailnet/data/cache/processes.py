"""Decodes images in processes of their own: decoders of DICOM let no other thread run beside them.

Each process writes shards of its own into the cache, so that no image passes from one to the other. They are plain
programs (``worker.py``), so that a script which has no ``if __name__ == "__main__"`` does not run again in each.
"""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from mailnet.data.cache.keys import Locations, locations_at
from mailnet.data.cache.shards import Shard
from mailnet.data.config import PixelConfig
from mailnet.data.locations import split_location, split_plane
from mailnet.data.readers import DICOM, NIFTI, known_suffixes
from mailnet.errors import DataError, RunError

Outcome: TypeAlias = "tuple[int, DataError | None]"

MOST = 16  # processes
CLOSING_SECONDS = 30.0  # in which a process that is stopped writes what it has decoded


def profiting(locations: Sequence[str]) -> np.ndarray:
    """Return which files are decoded by what processes of their own make faster: DICOM and NIfTI.

    >>> profiting(["a/1.png", "a/1.dcm", "a/set.zip!ct.nii.gz!slice/3", "a/series"]).tolist()
    [False, True, True, True]
    """
    others = (*(suffix for suffix in known_suffixes() if suffix not in DICOM + NIFTI), ".npz")

    def profits(location: str) -> bool:
        path, member = split_location(split_plane(location)[0])
        return not path.lower().endswith(".npz") and not (member or path).lower().endswith(others)

    return np.array([profits(location) for location in locations], dtype=bool)


class Processes:
    """Workers that each decode a part of some rows.

    Args:
        count: Number of them.
        shelf: Folder of the preparation.
        section: The modality.
        in_use: Shards that may not be deleted to make room.
    """

    def __init__(self, count: int, shelf: Path, section: PixelConfig, in_use: set[Shard]) -> None:
        self.count = count
        self._task = {
            "shelf": str(shelf.absolute()),
            "section": section.model_dump(mode="json"),
            "in_use": [str(shard.keys.absolute()) for shard in in_use],
        }
        self._said: queue.Queue[Outcome | RunError | None] = queue.Queue()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def decode(
        self, rows: np.ndarray, locations: Locations, keys: np.ndarray
    ) -> Iterator[tuple[int, DataError | None]]:
        """Yield rows once they are decoded, with what is wrong with each; none where no process can be started.

        Raises:
            RunError: The cache cannot be written, or exceeds its limit.
        """
        parts = [part for part in np.array_split(rows, self.count) if len(part)]
        for part in parts:
            threading.Thread(target=self._drive, args=(part, locations, keys), daemon=True).start()
        left = len(parts)
        try:
            while left:
                item = self._said.get()
                if item is None:
                    left -= 1
                elif isinstance(item, RunError):
                    raise item
                else:
                    yield item
        finally:
            self._end()

    def _drive(self, rows: np.ndarray, locations: Locations, keys: np.ndarray) -> None:
        """Have rows decoded, by one process after another where a file ends one."""
        try:
            while len(rows) and not self._stopped:
                several = locations_at(locations, rows)
                done, status = self._run(rows, several, keys)
                if done is None or status == 0 or self._stopped:
                    return
                if done < len(rows):
                    broken = DataError(
                        f"cannot be decoded (its process ended with status {status})",
                        file=several[done],
                        remedy="Restore the file, or leave the study out with --skip-bad",
                    )
                    self._said.put((int(rows[done]), broken))
                rows = rows[done + 1 :]
        finally:
            self._said.put(None)

    def _run(self, rows: np.ndarray, locations: list[str], keys: np.ndarray) -> tuple[int | None, int]:
        """Return how many rows a process reported, None where it did not start or was refused, and how it ended."""
        import mailnet

        task = self._task | {"locations": locations, "keys": [key.hex() for key in keys[rows].tolist()]}
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "mailnet.data.cache.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                # Python imports from the folder that it is started in, which must not be one with data.
                cwd=Path(mailnet.__file__).parent.parent,
                # Ctrl-C reaches it through this process alone, once.
                start_new_session=True,
            )
        except OSError:
            return None, 1
        self._running.add(process)
        done = None
        with process:
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                with process.stdin as stdin:
                    json.dump(task, stdin)
                for line in process.stdout:
                    said: dict[str, Any] = json.loads(line)
                    if "refused" in said:
                        self._said.put(RunError(**said["refused"]))
                        return None, 0
                    # The first line says only that it has started.
                    if done is not None:
                        self._said.put((int(rows[done]), DataError(**said["error"]) if "error" in said else None))
                    done = 0 if done is None else done + 1
            except (OSError, ValueError):
                pass  # It ended in the middle of a line.
        self._running.discard(process)
        return done, process.returncode

    def _end(self) -> None:
        """End what still runs, once it has written what it has decoded."""
        self._stopped = True
        still = list(self._running)
        for process in still:
            process.send_signal(signal.SIGINT)
        for process in still:
            try:
                process.wait(CLOSING_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
