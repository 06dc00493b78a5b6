"""A suite of made-up studies and networks that train in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from factory import merge, write_study

SMALL = {"name": "mail", "options": {"widths": [8, 8], "width": None}}


def write_suite(folder: Path, **changes: Any) -> Path:
    """Write two studies, one of each regime, and a suite of two networks; return its path.

    Args:
        folder: Where to write.
        changes: Merged into the suite's values, dicts key by key; None removes a key.
    """
    train = {"batch_size": 12, "device": "cpu", "learning_rate": 0.003, "epochs": 2}
    write_study(folder / "paired", n=60, size=16, train=train)
    write_study(folder / "unpaired", regime="unpaired", n=60, size=16, train=train)
    values: dict[str, Any] = {
        "name": "small",
        "studies": {"two": {"study": "paired/study.yaml"}, "apart": {"study": "unpaired/study.yaml"}},
        "networks": {"mail": SMALL, "wide": {"name": "mail", "options": {"widths": [12, 8], "width": None}}},
        "seeds": [0, 1],
        "bootstrap": 20,
        "latency": False,
        "reference": "mail",
    }
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(merge(values, changes), sort_keys=False), encoding="utf-8")
    return path
