"""Each study is answered once: over restarts, losses, and whatever arrives late."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from arrived import list_images, name_of, send

from dicom_files import SECRETS
from mailnet.deploy.dicom.ledger import Ledger
from mailnet.deploy.dicom.rules import Rules
from mailnet.deploy.dicom.watcher import TRIES, Watcher
from mailnet.errors import ConfigError, DataError, RunError

RULES = Rules({"left": {"SeriesDescription": "*left"}, "right": {"SeriesDescription": "*right"}})


class Time:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Hospital:
    """A folder in, a folder out, and a watcher that may be started again and again."""

    def __init__(self, folder: Path) -> None:
        self.inbox, self.out, self.time = folder / "in", folder / "out", Time()
        self.inbox.mkdir()
        self.lines: list[str] = []
        self.answered: list[list[str]] = []
        self.open: list[Watcher] = []

    def answer(self, series: dict[str, list[Any]], work: Path) -> list[tuple[str, bytes]]:
        self.answered.append(sorted(series))
        return list_images(series, work)

    def watcher(self, answer: Callable[..., Any] | None = None, **options: Any) -> Watcher:
        self.close()
        rules = options.pop("rules", RULES)
        watcher = Watcher(self.inbox, self.out, rules, answer or self.answer, quiet=10, say=self.lines.append,
                          clock=self.time, **options)  # fmt: skip
        self.open.append(watcher)
        return watcher

    def close(self) -> None:
        while self.open:
            self.open.pop().close()

    def settle(self, watcher: Watcher) -> int:
        """Look, let the quiet time pass, look again."""
        watcher.step()
        self.time.now += 11
        return watcher.step()

    def results(self) -> list[str]:
        return sorted(path.name for path in self.out.iterdir() if path.is_dir() and not path.name.startswith("."))

    def failures(self) -> list[str]:
        return [line.split("\t", 1)[1] for line in (self.out / "failures.txt").read_text().splitlines()]


@pytest.fixture
def hospital(tmp_path: Path) -> Any:
    made = Hospital(tmp_path)
    yield made
    made.close()


def test_a_study_is_answered_when_it_is_quiet(hospital: Hospital) -> None:
    watcher = hospital.watcher()
    send(hospital.inbox, 1)
    assert watcher.step() == 1
    hospital.time.now += 8
    send(hospital.inbox, 1, "right")
    assert watcher.step() == 1
    hospital.time.now += 8
    assert watcher.step() == 1
    hospital.time.now += 3
    assert watcher.step() == 0
    assert hospital.results() == [name_of(1)]
    text = (hospital.out / name_of(1) / "answer.txt").read_text()
    assert text == "left study-1-left-0.dcm\nright study-1-right-0.dcm\n"
    assert watcher.step() == 0
    assert len(hospital.answered) == 1


def test_it_is_not_answered_again_by_the_next(hospital: Hospital) -> None:
    send(hospital.inbox, 1)
    hospital.settle(hospital.watcher())
    shutil.rmtree(hospital.out / name_of(1))  # taken away by what reads the results
    hospital.settle(hospital.watcher())
    assert len(hospital.answered) == 1
    assert hospital.results() == []


def test_a_lost_ledger_answers_nothing_twice_that_lies_there(hospital: Hospital) -> None:
    send(hospital.inbox, 1)
    hospital.settle(hospital.watcher())
    hospital.close()
    shutil.rmtree(hospital.out / ".mailnet")
    hospital.settle(hospital.watcher())
    assert len(hospital.answered) == 1


@pytest.mark.parametrize("delivered", [False, True])
def test_what_was_prepared_is_delivered_by_the_next(hospital: Hospital, delivered: bool) -> None:
    send(hospital.inbox, 1)
    watcher = hospital.watcher()
    finish = watcher._outbox._finish

    def die(name: str) -> None:
        if delivered:
            finish(name)
            shutil.rmtree(hospital.out / name)
            watcher._ledger.prepared(name, [])
        raise KeyboardInterrupt

    watcher._outbox._finish = die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        hospital.settle(watcher)
    assert hospital.results() == []
    hospital.settle(hospital.watcher())
    assert len(hospital.answered) == 1
    assert hospital.results() == ([] if delivered else [name_of(1)])


def test_half_a_result_is_never_seen(hospital: Hospital) -> None:
    send(hospital.inbox, 1)

    def die(series: Any, work: Path) -> Any:
        (work / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hospital.settle(hospital.watcher(die))
    assert hospital.results() == []
    hospital.settle(hospital.watcher())
    assert [path.name for path in (hospital.out / name_of(1)).iterdir()] == ["answer.txt"]


def test_what_comes_late_is_noted_once(hospital: Hospital) -> None:
    send(hospital.inbox, 1)
    watcher = hospital.watcher()
    hospital.settle(watcher)
    send(hospital.inbox, 1, image=1)
    hospital.settle(watcher)
    hospital.settle(hospital.watcher())
    late = [line for line in hospital.lines if "came after" in line]
    assert late == [f"{name_of(1)}: 1 more came after it was answered; the answer stays"]
    assert (watcher.counts.done, watcher.counts.late) == (1, 1)


def test_a_study_that_fails_is_listed_and_left_until_it_changes(hospital: Hospital) -> None:
    send(hospital.inbox, 1, SeriesDescription="scout")
    path = send(hospital.inbox, 2)
    path.write_bytes(path.read_bytes()[:180])
    watcher = hospital.watcher()
    hospital.settle(watcher)
    failed = hospital.failures()
    assert len(failed) == 2
    assert f"{name_of(1)}\thas no image of any of the model's modalities. Correct the rules of --match." in failed
    again = hospital.watcher()
    hospital.settle(again)
    assert again.counts.failed == 0
    assert hospital.failures() == failed
    send(hospital.inbox, 1)
    hospital.settle(again)
    assert hospital.results() == [name_of(1)]
    assert len(hospital.failures()) == 1


def test_two_patients_under_one_study_are_never_one_answer(hospital: Hospital) -> None:
    send(hospital.inbox, 1, PatientID="PZX7733991")
    other = send(hospital.inbox, 1, "right", PatientID="Wobblestone")
    send(hospital.inbox, 2, PatientID="")  # says nothing, and so contradicts nothing
    send(hospital.inbox, 2, "right")
    same = send(hospital.inbox, 3)
    twin = send(hospital.inbox / "..", 3, PatientID="Wobblestone")  # the same object by its UID
    twin.rename(hospital.inbox / "twin.dcm")
    watcher = hospital.watcher()
    hospital.settle(watcher)
    said = "holds images of different patients under one Study Instance UID (PatientID)"
    assert hospital.results() == [name_of(2)]
    assert sorted(line.split(". ")[0] for line in hospital.failures()) == sorted(
        f"{name_of(number)}\t{said}" for number in (1, 3)
    )
    other.unlink()
    (hospital.inbox / "twin.dcm").unlink()
    hospital.settle(watcher)
    assert hospital.results() == sorted(map(name_of, (1, 2, 3)))
    assert same.exists()
    assert not any(secret in line for line in hospital.lines for secret in SECRETS)


def test_a_fault_in_one_study_does_not_hold_up_the_next(hospital: Hospital) -> None:
    for number in (1, 2):
        send(hospital.inbox, number)

    def fault(series: dict[str, list[Any]], work: Path) -> Any:
        if "study-1" in series["left"][0].path:
            raise ZeroDivisionError("Quillfeather")
        return list_images(series, work)

    hospital.settle(hospital.watcher(fault))
    assert hospital.results() == [name_of(2)]
    assert "cannot be answered (ZeroDivisionError)" in hospital.failures()[0]


def test_a_full_disk_ends_the_watch_and_fails_no_study(hospital: Hospital) -> None:
    send(hospital.inbox, 1)

    def full(series: Any, work: Path) -> Any:
        raise OSError(28, "No space left on device")

    for _ in range(2):
        with pytest.raises(RunError, match="No space left"):
            hospital.settle(hospital.watcher(full))
    watcher = hospital.watcher()
    assert watcher._ledger.entry(name_of(1)) is None
    hospital.settle(watcher)
    assert hospital.results() == [name_of(1)]


def test_a_study_that_always_ends_the_process_is_given_up(hospital: Hospital) -> None:
    send(hospital.inbox, 1)

    def die(series: Any, work: Path) -> Any:
        raise KeyboardInterrupt  # nothing is written after it, as when the process is killed

    for _ in range(TRIES):
        with pytest.raises(KeyboardInterrupt):
            hospital.settle(hospital.watcher(die))
    watcher = hospital.watcher(die)
    hospital.settle(watcher)
    assert f"has ended the process {TRIES} times" in hospital.failures()[0]


def test_nothing_of_a_patient_is_said_or_kept(hospital: Hospital) -> None:
    send(hospital.inbox, 1)
    (hospital.inbox / "Quillfeather.dcm").write_bytes(send(hospital.inbox, 2).read_bytes()[:300])
    send(hospital.inbox, 3, SeriesDescription="Snorkelfish")

    def refuse(series: dict[str, list[Any]], work: Path) -> Any:
        raise DataError("has a wrong size", file=hospital.inbox / "Quillfeather.dcm", modality="left")

    hospital.settle(hospital.watcher(refuse))
    hospital.close()
    ledger = (hospital.out / ".mailnet" / "ledger.sqlite").read_bytes().decode("latin-1")
    text = ledger + (hospital.out / "failures.txt").read_text() + "".join(hospital.lines)
    assert "has a wrong size" in text
    assert not any(secret in text for secret in [*SECRETS, "1.2.826.0.1", "study-"])


def test_clean_clears_only_what_was_answered(hospital: Hospital) -> None:
    send(hospital.inbox, 1)
    left = send(hospital.inbox, 2, SeriesDescription="scout")
    watcher = hospital.watcher(clean=True)
    hospital.settle(watcher)
    assert list(hospital.inbox.iterdir()) == [left]
    send(hospital.inbox, 1)  # sent again, it is the same and no news
    hospital.settle(watcher)
    assert list(hospital.inbox.iterdir()) == [left]
    late = send(hospital.inbox, 1, image=1)  # in no answer, so it is not thrown away
    hospital.settle(watcher)
    assert sorted(hospital.inbox.iterdir()) == sorted([left, late])
    assert watcher.counts.as_dict() == {"done": 1, "failed": 1, "late": 1}


def test_two_watchers_of_one_outbox_are_one_too_many(hospital: Hospital) -> None:
    hospital.watcher()
    with pytest.raises(RunError, match="in use by another watcher"):
        Watcher(hospital.inbox, hospital.out, RULES, hospital.answer)


def test_folders_that_cannot_be(hospital: Hospital) -> None:
    for out in (hospital.inbox, hospital.inbox / "out", hospital.inbox.parent):
        with pytest.raises(ConfigError, match="is watched"):
            Watcher(hospital.inbox, out, RULES, hospital.answer)
    with pytest.raises(ConfigError, match="is no folder"):
        Watcher(hospital.inbox / "none", hospital.out, RULES, hospital.answer)


def test_a_damaged_or_newer_ledger_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    file.write_bytes(b"no base" * 1000)
    with pytest.raises(RunError, match="cannot be read"):
        Ledger(file)
    file.unlink()
    ledger = Ledger(file)
    ledger._base.execute("PRAGMA user_version = 99")
    ledger.close()
    with pytest.raises(RunError, match="newer than"):
        Ledger(file)
