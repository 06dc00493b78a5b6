"""What a person sees while a network trains: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

SECONDS_BETWEEN_LINES = 20.0


class Progress:
    """Reports training on stderr.

    Args:
        epochs: Number of epochs of the training.
        shown: Whether anything is shown; False on all processes but the first.
    """

    def __init__(self, epochs: int, shown: bool) -> None:
        self.epochs = epochs
        self.shown = shown
        self._bar: Any = None
        self._task: Any = None
        self._last = time.monotonic()
        if shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("training", total=float(epochs), note="")

    def say(self, text: str) -> None:
        """Print a line."""
        if not self.shown:
            return
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Say that ``step`` of ``steps`` of an epoch (from 0) are done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=epoch + step / steps, description=f"epoch {epoch + 1}/{self.epochs}")
        elif time.monotonic() - self._last > SECONDS_BETWEEN_LINES and step < steps:
            self._last = time.monotonic()
            self.say(f"epoch {epoch + 1}/{self.epochs}: batch {step} of {steps}")

    def epoch(self, line: dict[str, Any], monitor: str, best: bool) -> None:
        """Report a finished epoch.

        Args:
            line: Its line of ``metrics.jsonl``.
            monitor: The metric that decides.
            best: Whether it is the best so far.
        """
        score = line["val"].get(monitor)
        shown = "" if monitor == "loss" or score is None else f", {monitor.replace('_', ' ')} {score:.4f}"
        loss = line["val"]["loss"]
        after = "" if loss is None else f", validation loss {loss:.4f}"
        note = f"loss {line['train']['loss']:.4f}{after}{shown}"
        if self._bar is not None:
            self._bar.update(self._task, note=f"loss {line['train']['loss']:.3f}{shown}")
        elif best or line["epoch"] == self.epochs or time.monotonic() - self._last > SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            self.say(f"epoch {line['epoch']}/{self.epochs}: {note}{' (best)' if best else ''}")

    def done(self, best: dict[str, Any]) -> None:
        """Say which epoch was the best."""
        value = "" if best["value"] is None else f", validation {best['monitor'].replace('_', ' ')} {best['value']:.4f}"
        self.say(f"trained; the best epoch is {best['epoch']}{value}")

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
