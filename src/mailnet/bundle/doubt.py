"""The parts of a model's uncertainty as columns of a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mailnet.specs import TaskSpec
from mailnet.trust.uncertainty import Uncertainty

PARTS = ("total", "aleatoric", "epistemic", "variation")


def part_columns(tasks: Mapping[str, TaskSpec], found: Mapping[str, Uncertainty]) -> dict[str, np.ndarray]:
    """Return ``<part>:<task>``, of a label ``<part>:<task>:<class>`` -> (N,), in nats, of ``variation`` a share."""
    columns = {}
    for task, spec in tasks.items():
        for part in PARTS:
            values = getattr(found[task], part)
            if values.ndim == 1:
                columns[f"{part}:{task}"] = values
            else:
                columns |= {f"{part}:{task}:{name}": values[:, k] for k, name in enumerate(spec.classes)}
    return columns


def parts_as_json(spec: TaskSpec, found: Uncertainty, row: int) -> dict[str, float | dict[str, float]]:
    """Return part -> number, of a multilabel task class -> number, of one study."""
    parts: dict[str, float | dict[str, float]] = {}
    for part in PARTS:
        value = getattr(found, part)[row]
        parts[part] = dict(zip(spec.classes, value.tolist(), strict=True)) if np.ndim(value) else float(value)
    return parts
