"""How long work took and will take, in words."""

from __future__ import annotations

import pytest

from mailnet.data import progress as module
from mailnet.data.progress import Clock, progress, spoken


def test_what_is_left_follows_from_what_was_done_now() -> None:
    clock = Clock(100, start=50.0)
    assert clock.left(60.0) is None
    clock.add(40, before=True)
    assert clock.left(60.0) is None  # what an earlier command did says nothing of how long the rest takes
    clock.add(20, before=False)
    assert clock.left(70.0) == pytest.approx(40.0)  # 20 in 20 s, 40 are left
    assert clock.text(70.0) == "20 s, about 40 s left"


def test_times_are_spoken() -> None:
    assert [spoken(x) for x in (0.0, 59.4, 60.0, 3599.0, 3600.0)] == [
        "0.0 s",
        "59 s",
        "1 min 0 s",
        "59 min 59 s",
        "1 h 0 min",
    ]


def test_lines_say_how_far_and_how_long(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY_SECONDS", 0.0)
    for share, words in (
        (False, ("Doing: 1 of 4 in", "Doing: 4 of 4 in")),
        (True, ("Doing: 25% in", "Doing: 100% in")),
    ):
        with progress("Doing", 4, share=share) as advance:
            advance(1)
            advance(3, before=True)
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 3
        assert lines[0].startswith(words[0])
        assert lines[0].endswith("left")
        assert lines[-1].startswith(words[1])
        assert "left" not in lines[-1]
