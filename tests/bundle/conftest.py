"""Fixtures of runs."""

from runs import cache, make_run

__all__ = ["cache", "make_run"]
