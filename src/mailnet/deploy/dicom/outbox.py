"""Where results go: written whole beside the ledger, delivered by one rename, whatever happens in between."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mailnet.deploy.dicom.ledger import Ledger
from mailnet.errors import RunError
from mailnet.files import write_text

if TYPE_CHECKING:
    from mailnet.deploy.dicom.results import Results

PRIVATE = ".mailnet"  # folder in OUT of the ledger and of results that are not delivered yet
FAILURES = "failures.txt"
_AGAIN = "Free space and correct its rights; given again, the command goes on where it was"


class Outbox:
    """A folder of results, one folder a study, and the ledger of what has become of each.

    Args:
        folder: Made where there is none.

    Raises:
        RunError: Another process has it, or it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._private = folder / PRIVATE
        self.ledger = Ledger(self._private / "ledger.sqlite")
        os.chmod(self._private, 0o700)
        self._listed: list[str] | None = None

    def recover(self) -> list[str]:
        """Deliver what was prepared when the process ended, throw away what was not, and return what was delivered."""
        prepared = [entry.study for entry in self.ledger.entries("prepared")]
        for name in prepared:
            self._finish(name)
        for half in ("work", "staged"):
            shutil.rmtree(self._private / half, ignore_errors=True)
        self.list_failures()
        return prepared

    def has(self, name: str) -> bool:
        """Return whether results of a study lie there, whatever the ledger says."""
        return (self.folder / name).exists()

    @contextmanager
    def work(self, name: str) -> Iterator[Path]:
        """Yield an empty private folder, gone afterwards."""
        work = self._private / "work" / name
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def deliver(self, name: str, instances: Collection[str], results: Results) -> None:
        """Put the results of a study there, all at once, and never again.

        Args:
            name: Digest of the study.
            instances: Digests of the objects that they are of.
            results: Name of each file -> its content.

        Raises:
            RunError: They cannot be written.
        """
        staged = self._staged(name)
        shutil.rmtree(staged, ignore_errors=True)
        try:
            staged.mkdir(parents=True)
            for file, content in results:
                with (staged / file).open("xb") as written:
                    written.write(content)
                    written.flush()
                    os.fsync(written.fileno())
            _sync(staged)
            _sync(staged.parent)
        except OSError as error:
            shutil.rmtree(staged, ignore_errors=True)
            raise RunError(f"cannot be written ({error.strerror})", file=self.folder, remedy=_AGAIN) from error
        self.ledger.prepared(name, instances)
        self._finish(name)

    def list_failures(self) -> None:
        """Write the list of studies that cannot be answered, where it has changed."""
        lines = [f"{entry.changed}\t{entry.study}\t{entry.reason}\n" for entry in self.ledger.entries("failed")]
        if lines != self._listed:
            write_text(self.folder / FAILURES, "".join(lines))
            self._listed = lines

    def _finish(self, name: str) -> None:
        """Deliver what is prepared; where nothing is there, it has been delivered."""
        staged = self._staged(name)
        if staged.is_dir():
            try:
                staged.rename(self.folder / name)
                _sync(self.folder)
            except OSError as error:
                raise RunError(f"cannot be written ({error.strerror})", file=self.folder, remedy=_AGAIN) from error
        self.ledger.done(name)

    def _staged(self, name: str) -> Path:
        return self._private / "staged" / name


def _sync(folder: Path) -> None:
    """Make what was written or renamed in a folder outlast a loss of power, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
