"""Answers each study that arrives in a folder once, whatever happens meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mailnet.deploy.dicom.inbox import Inbox, Instance, StudyFiles
from mailnet.deploy.dicom.outbox import Outbox
from mailnet.deploy.dicom.rules import Rules
from mailnet.errors import ConfigError, DataError, MailnetError, RunError

if TYPE_CHECKING:
    from mailnet.deploy.dicom.results import Results

Answer: TypeAlias = "Callable[[dict[str, list[Instance]], Path], Results]"  # modality -> images, a folder to work in
Say = Callable[[str], None]

TRIES = 8  # of a study during which the process dies; a kill of many at random is no fault of the study


@dataclass
class Counts:
    """What a watcher has done since it began."""

    done: int = 0
    failed: int = 0
    late: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return it for JSON."""
        return {"done": self.done, "failed": self.failed, "late": self.late}


class Watcher:
    """Watches a folder.

    Results lie in ``OUT/DIGEST/``, which appears at once and complete; the digest is that of the Study Instance UID,
    and stands for it in everything that is said. ``OUT/failures.txt`` lists the studies that cannot be answered, one a
    line, with the reason; one is tried again when its files change. Objects that come after their study was answered
    are noted and do not change the answer.

    Args:
        inbox: The folder that studies arrive in, also in folders within; never written to unless ``clean``.
        outbox: Where results go.
        rules: Which images are which modality.
        answer: Makes the results of a study, files that are written as they are.
        quiet: Seconds during which nothing of a study must have changed before it counts as whole.
        clean: Delete the files of a study from the inbox once its results are delivered; those that come late stay.
        say: Is told what happens, a line each, without any patient's data.
        clock: Seconds, for tests.

    Raises:
        ConfigError: One of the folders lies in the other, or there is no inbox.
        RunError: Another watcher has the same outbox.
    """

    def __init__(
        self,
        inbox: str | Path,
        outbox: str | Path,
        rules: Rules,
        answer: Answer,
        *,
        quiet: float = 10.0,
        clean: bool = False,
        say: Say = lambda line: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        source, target = Path(inbox).resolve(), Path(outbox).resolve()
        if not source.is_dir():
            raise ConfigError("is no folder", file=inbox, remedy="Make it, or correct --watch")
        if source == target or source in target.parents or target in source.parents:
            raise ConfigError("lies in the folder that is watched, or the reverse", file=outbox, remedy="Move it")
        self.rules, self.counts = rules, Counts()
        self._inbox, self._answer = Inbox(source, rules), answer
        self._quiet, self._clean, self._say, self._clock = quiet, clean, say, clock
        self._seen: dict[str, tuple[str, float]] = {}
        self._settled: dict[str, str] = {}
        self._outbox = Outbox(target)
        self._ledger = self._outbox.ledger
        for name in self._outbox.recover():
            self._say(f"{name}: answered before the last stop, delivered now")

    def close(self) -> None:
        """Let go of the outbox."""
        self._ledger.close()

    def run(self, stop: threading.Event, *, once: bool = False) -> Counts:
        """Watch until told to stop, or with ``once`` until all that lies there is answered or has failed.

        Args:
            stop: Ends it, after the study at hand.
            once: Do not wait for more.

        Raises:
            RunError: Results cannot be written; given again, it goes on where it was.
        """
        while not stop.is_set():
            began = self._clock()
            waiting = self.step(stop)
            if once and not waiting:
                break
            # A folder of very many files is not looked through all the time.
            stop.wait(max(min(1.0, max(0.05, self._quiet / 5)), 2 * (self._clock() - began)))
        return self.counts

    def step(self, stop: threading.Event | None = None) -> int:
        """Look once, answer what is whole, and return how many studies are still arriving.

        Args:
            stop: Ends it, after the study at hand.
        """
        studies, now = self._inbox.scan(), self._clock()
        self._seen = {study: seen for study, seen in self._seen.items() if study in studies}
        ready: list[tuple[int, str]] = []
        waiting = 0
        self._settled = {study: mark for study, mark in self._settled.items() if study in studies}
        for name, study in studies.items():
            mark = study.fingerprint
            if self._settled.get(name) == mark:
                continue
            entry = self._ledger.entry(name)
            if entry is not None and entry.status == "done":
                self._after(study)
                continue
            if entry is not None and entry.status == "failed" and entry.fingerprint == mark:
                continue
            if self._seen.get(name, ("",))[0] != mark:
                self._seen[name] = (mark, now)
            if now - self._seen[name][1] < self._quiet:
                waiting += 1
            else:
                ready.append((0 if entry is None else entry.tries, name))
        # Those that the process has died of come last, so that they hold up nobody.
        for place, (tries, name) in enumerate(sorted(ready)):
            if stop is not None and stop.is_set():
                return waiting + len(ready) - place
            self._handle(studies[name], tries)
        return waiting

    def _handle(self, study: StudyFiles, tries: int) -> None:
        name, began = study.study, time.monotonic()
        if self._outbox.has(name):  # the ledger was lost, the results were not
            self._ledger.done(name, study.instances)
            return
        try:
            if study.broken is not None:
                raise DataError(study.broken, remedy="Send it again")
            if tries >= TRIES:
                raise DataError(
                    f"has ended the process {tries} times", remedy="Look at the system's log for the reason"
                )
            series = study.series(self.rules)
            self._ledger.trying(name)
            results = self._answered(name, series)
            self._outbox.deliver(name, study.instances, results)
        except DataError as error:
            self._fail(study, error)
            return
        except MailnetError:  # no fault of the study
            self._ledger.spare(name)
            raise
        self._outbox.list_failures()  # it may have been one of them
        self.counts.done += 1
        self._say(f"{name}: answered in {time.monotonic() - began:.1f} s ({sum(map(len, series.values()))} images)")
        self._after(study)

    def _answered(self, name: str, series: dict[str, list[Instance]]) -> Results:
        try:
            with self._outbox.work(name) as work:
                return self._answer(series, work)
        except MailnetError:
            raise
        except OSError as error:
            remedy = "Given again, the command goes on where it was"
            raise RunError(f"cannot be read or written ({error.strerror})", remedy=remedy) from None
        # A fault of ours must not end the watch for all other studies; its text may hold values of headers.
        except Exception as error:
            remedy = "This looks like a fault of mailnet: try the study with 'mailnet predict --debug'"
            raise DataError(f"cannot be answered ({type(error).__name__})", remedy=remedy) from None

    def _after(self, study: StudyFiles) -> None:
        """Note what came after a study was answered, and clear the inbox where that is wanted."""
        late, answered = self._ledger.add_late(study.study, study.instances)
        if late:
            self.counts.late += late
            self._say(f"{study.study}: {late} more came after it was answered; the answer stays")
        self._settled[study.study] = study.fingerprint
        if self._clean:
            try:
                for name in answered & set(study.instances):
                    Path(study.instances[name].path).unlink(missing_ok=True)
            except OSError as error:
                remedy = "Correct its rights, or leave out --clean"
                folder = self._inbox.folder
                raise RunError(f"cannot be cleared ({error.strerror})", file=folder, remedy=remedy) from None

    def _fail(self, study: StudyFiles, error: MailnetError) -> None:
        # Without the file, whose name may be the patient's.
        where = f"modality {error.modality}: " if error.modality else ""
        remedy = f". {error.remedy.rstrip('.')}." if error.remedy else "."
        reason = f"{where}{error.message.rstrip('.')}{remedy}"
        self._ledger.failed(study.study, study.fingerprint, reason)
        self.counts.failed += 1
        self._say(f"{study.study}: {reason}")
        self._outbox.list_failures()
