"""Shows how far long work is: a bar on a terminal, a line every so often elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

EVERY_SECONDS = 10.0


class Advance(Protocol):
    """Called with the amount of work just done; ``before`` where an earlier command did it, which took no time now."""

    def __call__(self, count: int, *, before: bool = False) -> None: ...


class Clock:
    """How much is done, how long it took, and about how long the rest will.

    Args:
        total: All the work.
        start: When it began, in seconds.
    """

    def __init__(self, total: int, start: float) -> None:
        self.total, self.start, self.done, self.before = total, start, 0, 0

    def add(self, count: int, before: bool) -> None:
        """Count work."""
        self.done += count
        self.before += count if before else 0

    def left(self, now: float) -> float | None:
        """Return about how many seconds are left, as if all work took as long as what was done; None if not known."""
        made = self.done - self.before
        return (now - self.start) / made * max(self.total - self.done, 0) if made > 0 else None

    def text(self, now: float) -> str:
        """Return how long it took and will take, in words."""
        left = self.left(now)
        return spoken(now - self.start) + ("" if left is None else f", about {spoken(left)} left")


def spoken(seconds: float) -> str:
    """Return a time in words.

    >>> spoken(3.21), spoken(48), spoken(130), spoken(11_100)
    ('3.2 s', '48 s', '2 min 10 s', '3 h 5 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def progress(label: str, total: int, *, share: bool = False) -> Iterator[Advance]:
    """Yield a function that is called with the amount of work just done.

    Args:
        label: What is done.
        total: All the work, as a rule a number of items.
        share: Show the share that is done, in place of numbers that say nothing to a reader.
    """
    clock = Clock(total, time.monotonic())
    if sys.stderr.isatty():
        with _bar(label, clock, share) as advance:
            yield advance
        return
    said = clock.start

    def done() -> str:
        return f"{label}: {clock.done / max(total, 1):.0%}" if share else f"{label}: {clock.done} of {total}"

    def advance_lines(count: int, *, before: bool = False) -> None:
        nonlocal said
        clock.add(count, before)
        now = time.monotonic()
        if now - said >= EVERY_SECONDS:
            said = now
            print(f"{done()} in {clock.text(now)}", file=sys.stderr, flush=True)

    yield advance_lines
    print(f"{done()} in {spoken(time.monotonic() - clock.start)}", file=sys.stderr, flush=True)


@contextmanager
def _bar(label: str, clock: Clock, share: bool) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TaskProgressColumn,
        TextColumn,
    )
    from rich.text import Text

    class Times(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(clock.text(time.monotonic()))

    counted = TaskProgressColumn() if share else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), counted, Times())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=clock.total)

        def advance(count: int, *, before: bool = False) -> None:
            clock.add(count, before)
            bar.advance(task, count)

        yield advance
