from __future__ import annotations

from typing import Any

import pytest

from mailnet.training import progress
from mailnet.training.progress import Progress


def line(epoch: int, score: float | None) -> dict[str, Any]:
    return {"epoch": epoch, "train": {"loss": 0.5}, "val": {"loss": 0.75, "accuracy": score}}


def test_lines_come_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    report = Progress(100, shown=True)
    for step in range(1, 50):
        clock[0] += 1
        report.step(0, step, 50)
    for epoch in range(1, 50):
        clock[0] += 1
        report.epoch(line(epoch, 0.5), "accuracy", best=epoch == 7)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "epoch 1/100: batch 21 of 50"
    assert "epoch 7/100: loss 0.5000, validation loss 0.7500, accuracy 0.5000 (best)" in lines
    assert len(lines) == 5


def test_nothing_is_shown_by_other_processes(capsys: pytest.CaptureFixture[str]) -> None:
    report = Progress(1, shown=False)
    report.say("text")
    report.epoch(line(1, None), "accuracy", best=True)
    report.done({"epoch": 1, "monitor": "accuracy", "value": None})
    report.close()
    assert capsys.readouterr().err == ""
