"""What has become of each study, on disk, so that none is answered twice; it holds digests of UIDs alone.

A study's results are written into a folder of their own beside the ledger. Then the ledger says ``prepared``, one
rename delivers the folder, and the ledger says ``done``. Whenever the process dies, what is found tells how to go on:
``prepared`` with the folder still there is delivered now, ``prepared`` without it has been delivered, also where
someone has taken the results away since, and what is not ``prepared`` is made anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from mailnet.errors import RunError

Status = Literal["tried", "prepared", "done", "failed"]
FORMAT = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS studies (
    study TEXT PRIMARY KEY, status TEXT NOT NULL, tries INTEGER NOT NULL DEFAULT 0, fingerprint TEXT, reason TEXT,
    changed TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS instances (
    study TEXT, instance TEXT, late INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (study, instance)) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Entry:
    """What is known of a study.

    Args:
        study: Its digest.
        status: ``tried`` (being answered when the process ended), ``prepared``, ``done`` or ``failed``.
        tries: How often answering it was begun since it was last changed or ended without the process dying.
        fingerprint: Of the objects that failed.
        reason: Why, in one line.
        changed: When, in UTC.
    """

    study: str
    status: Status
    tries: int
    fingerprint: str | None
    reason: str | None
    changed: str


class Ledger:
    """The list of studies in a SQLite file, which one process at a time may have open.

    Args:
        file: Its path; made where there is none.

    Raises:
        RunError: Another process has it open, or it cannot be read or written.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(file, timeout=0.5, isolation_level=None)
            # The lock is held until the process ends, however it ends; EXTRA outlasts a loss of power as well.
            self._base.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._base.execute("PRAGMA synchronous = EXTRA")
            self._base.execute("BEGIN EXCLUSIVE")
            (found,) = self._base.execute("PRAGMA user_version").fetchone()
            if found > FORMAT:
                raise RunError(f"is of format {found}, newer than {FORMAT}", file=file, remedy="Update mailnet")
            for statement in _TABLES.split(";")[:-1]:
                self._base.execute(statement)
            self._base.execute(f"PRAGMA user_version = {FORMAT}")
            self._base.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                remedy = "End it, or choose another --out"
                raise RunError("is in use by another watcher", file=file, remedy=remedy) from error
            raise RunError(f"cannot be written ({error})", file=file, remedy="Check --out and its rights") from error
        except (OSError, sqlite3.DatabaseError) as error:
            raise RunError(
                f"cannot be read ({error})", file=file, remedy="Restore it, or choose another --out"
            ) from error

    def close(self) -> None:
        """Let other processes open it."""
        self._base.close()

    def entry(self, study: str) -> Entry | None:
        """Return what is known of a study."""
        found = self._base.execute("SELECT * FROM studies WHERE study = ?", (study,)).fetchone()
        return None if found is None else Entry(*found)

    def entries(self, status: Status) -> list[Entry]:
        """Return the studies of a status, in the order in which they came to it."""
        rows = self._base.execute("SELECT * FROM studies WHERE status = ? ORDER BY changed, study", (status,))
        return [Entry(*row) for row in rows]

    def late(self) -> int:
        """Return how many objects came after their study was answered."""
        return int(self._base.execute("SELECT COUNT(*) FROM instances WHERE late").fetchone()[0])

    def trying(self, study: str) -> None:
        """Note that answering a study is begun, so that one that always kills the process is known."""
        with self._writing():
            self._base.execute(
                "INSERT INTO studies (study, status, tries, changed) VALUES (?, 'tried', 1, ?) ON CONFLICT (study) "
                "DO UPDATE SET tries = iif(status = 'tried', tries, 0) + 1, status = 'tried', "
                "changed = excluded.changed",
                (study, _now()),
            )

    def spare(self, study: str) -> None:
        """Forget that answering was begun, where it ended for another reason than the study."""
        with self._writing():
            self._base.execute("DELETE FROM studies WHERE study = ? AND status = 'tried'", (study,))

    def prepared(self, study: str, instances: Collection[str]) -> None:
        """Note that the results of a study are complete, and of which objects they are."""
        with self._writing():
            self._put(study, "prepared")
            self._base.executemany(
                "INSERT OR REPLACE INTO instances (study, instance) VALUES (?, ?)", [(study, one) for one in instances]
            )

    def done(self, study: str, instances: Collection[str] = ()) -> None:
        """Note that the results of a study have been delivered."""
        with self._writing():
            self._put(study, "done")
            self._base.executemany(
                "INSERT OR IGNORE INTO instances (study, instance) VALUES (?, ?)", [(study, one) for one in instances]
            )

    def failed(self, study: str, fingerprint: str, reason: str) -> None:
        """Note that a study cannot be answered as it is."""
        with self._writing():
            self._put(study, "failed", fingerprint, " ".join(reason.split()))

    def add_late(self, study: str, instances: Collection[str]) -> tuple[int, set[str]]:
        """Note which objects of an answered study its answer is not of.

        Returns:
            How many of them are new, and those that the answer is of.
        """
        rows = self._base.execute("SELECT instance, late FROM instances WHERE study = ?", (study,)).fetchall()
        new = sorted(set(instances) - {instance for instance, _ in rows})
        if new:
            with self._writing():
                self._base.executemany(
                    "INSERT INTO instances (study, instance, late) VALUES (?, ?, 1)", [(study, one) for one in new]
                )
        return len(new), {instance for instance, late in rows if not late}

    def _put(self, study: str, status: Status, fingerprint: str | None = None, reason: str | None = None) -> None:
        self._base.execute(
            "INSERT OR REPLACE INTO studies (study, status, tries, fingerprint, reason, changed) "
            "VALUES (?, ?, 0, ?, ?, ?)",
            (study, status, fingerprint, reason, _now()),
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")
        except sqlite3.OperationalError as error:
            remedy = "Free space; given again, the command goes on where it was"
            raise RunError(f"cannot be written ({error})", file=self.file, remedy=remedy) from error


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
