"""Quick starts and ends: what a command loads lives as long as its process, so no search for garbage need see it."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Import packages and read weights within this block without Python searching them for garbage meanwhile.

    Loading PyTorch makes 170,000 objects that stay, and search upon search passes through those there are.
    """
    searching = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searching:
            gc.enable()


def end_quickly() -> None:
    """Let the process end without a last search through all that it has loaded, which the system takes back anyway."""
    atexit.register(gc.freeze)
