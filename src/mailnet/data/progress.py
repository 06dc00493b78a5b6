"""Shows how far long work on data is: a bar on a terminal, a line every so often elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY_SECONDS = 10.0


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that is called with the number of items just done."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda count: bar.advance(task, count)
        return
    done, start = 0, time.monotonic()
    said = start

    def advance(count: int) -> None:
        nonlocal done, said
        done += count
        if time.monotonic() - said >= EVERY_SECONDS:
            said = time.monotonic()
            print(f"{label}: {done} of {total}", file=sys.stderr, flush=True)

    yield advance
    print(f"{label}: {done} of {total} in {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
