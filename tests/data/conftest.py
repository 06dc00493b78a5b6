"""A made-up study in a temporary folder, and a cache that no other test sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from factory import read_table, write_study, write_table
from mailnet.data.config import StudyConfig, load_config

Rows = list[dict[str, str]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of the test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MAILNET_CACHE", str(folder))
    return folder


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., StudyConfig]:
    """``study(change=f, **changes)`` writes one, lets ``f(rows)`` change its table, and returns its configuration."""

    def make(change: Callable[[Rows], Any] | None = None, **changes: Any) -> StudyConfig:
        path = write_study(tmp_path / "study", **changes)
        if change is not None:
            rows = read_table(path.parent / "studies.csv")
            changed = change(rows)
            write_table(path.parent / "studies.csv", rows if changed is None else changed)
        return load_config(path)

    return make
