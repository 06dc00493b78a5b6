"""What the attacker of a run may change: radii of every level, and the range of tables that he holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from mailnet.attacks.threat import Norm
from mailnet.data.study import StudyData
from mailnet.errors import ConfigError

# Radii that are measured where none are asked for; those of l2 and l1 suit images of some thousand values.
LEVELS: dict[Norm, tuple[float, ...]] = {
    "linf": (1 / 255, 2 / 255, 4 / 255, 8 / 255),
    "l2": (0.25, 0.5, 1.0, 2.0),
    "l1": (5.0, 10.0, 20.0, 40.0),
}
# One radius of all modalities that are held, or modality -> radius of those that are.
Level: TypeAlias = float | Mapping[str, float]
Box: TypeAlias = tuple[Tensor, Tensor]


def choose_levels(
    data: StudyData,
    norm: str,
    eps: Sequence[Level] | None,
    modalities: Sequence[str] | None,
    tables: Mapping[str, float],
) -> tuple[Norm, list[dict[str, float]]]:
    """Return the norm and, rising, modality -> radius of each level.

    Args:
        data: The studies.
        norm: ``linf``, ``l2`` or ``l1``.
        eps: The levels; None for ``LEVELS``.
        modalities: Images and volumes in the attacker's hands, where a level does not name them; None for all.
        tables: Table -> radius in standard deviations of training, at every level.

    Raises:
        ConfigError: An unknown norm or modality, a table among the images or an image among the tables, nothing in the
            attacker's hands, or a radius that is not positive or exceeds the range.
    """
    chosen = next((known for known in get_args(Norm) if known == norm), None)
    if chosen is None:
        raise ConfigError(f"there is no norm '{norm}'", remedy=f"Choose from {', '.join(get_args(Norm))}")
    images = [name for name, spec in data.modalities.items() if spec.kind != "tabular"]
    held = _known(data, images if modalities is None else modalities, images)
    for name, radius in tables.items():
        if name not in data.modalities or name in images:
            others = [other for other in data.modalities if other not in images]
            if name in images:
                raise ConfigError("is no table", modality=name, remedy=f"Give its radius as eps: --eps {name}=4/255")
            there = f"Choose from {', '.join(others)}" if others else "Leave tables out"
            raise ConfigError(f"the run has no table '{name}'" if others else "the run has no table", remedy=there)
        if not 0 < radius < math.inf:
            raise ConfigError(f"the radius must be positive, got {radius:g}", modality=name, remedy="Usual is 0.1")
    levels = []
    for level in LEVELS[chosen] if eps is None else eps:
        named = dict.fromkeys(held, level) if isinstance(level, int | float) else dict(level)
        if extra := [name for name in _known(data, list(named), images) if modalities is not None and name not in held]:
            raise ConfigError(
                f"a radius is given of {' and '.join(extra)}, but only {' and '.join(held)} may be changed",
                remedy="Name the same modalities, or give radii alone: those that have one are held",
            )
        for name, radius in named.items():
            _check_radius(data, name, chosen, radius)
        whole = {name: float({**named, **tables}[name]) for name in data.modalities if name in {**named, **tables}}
        if not whole:
            raise ConfigError("the attacker holds nothing", remedy="Choose modalities, or a table with its radius")
        levels.append(whole)
    if not levels:
        raise ConfigError("no radius is given", remedy="Give eps, as 4/255")
    return chosen, sorted(levels, key=lambda level: sum(level.values()))


def table_boxes(data: StudyData) -> dict[str, Box]:
    """Return table -> lowest and highest value of each feature, (F,) each.

    Numbers may take every value between the extremes of the loaded studies; categories and the flags of missing values
    stay what they are.
    """
    boxes = {}
    for name, spec in data.modalities.items():
        if spec.kind == "tabular":
            low, high = np.zeros((2, spec.channels), np.float32)
            values = np.asarray(data.arrays[name])[data.present[name]]
            if len(values):
                numbers = len(data.tables[name].numeric.names)
                low[:numbers], high[:numbers] = values[:, :numbers].min(0), values[:, :numbers].max(0)
            boxes[name] = torch.from_numpy(low), torch.from_numpy(high)
    return boxes


def _known(data: StudyData, names: Sequence[str], images: Sequence[str]) -> list[str]:
    for name in names:
        if name not in data.modalities:
            remedy = f"It has {', '.join(data.modalities)}"
            raise ConfigError(f"the run has no modality '{name}'", remedy=remedy)
        if name not in images:
            raise ConfigError(
                "is a table, of which the attacker holds nothing unless a radius of its own says how far",
                modality=name,
                remedy=f"Give it in standard deviations: --table {name}=0.1",
            )
    return list(names)


def _check_radius(data: StudyData, name: str, norm: Norm, radius: float) -> None:
    spec = data.modalities[name]
    values = spec.channels * math.prod(spec.size or (1,))
    largest = {"linf": 1.0, "l2": math.sqrt(values), "l1": float(values)}[norm]
    if not 0 < radius < math.inf:
        raise ConfigError(f"eps must be positive, got {radius:g}", modality=name, remedy="Usual is 4/255 in linf")
    if radius > largest:
        raise ConfigError(
            f"eps is {radius:g}, more than {largest:g}, by which two images in [0, 1] differ at most in {norm}",
            modality=name,
            remedy="Images have values of 0 to 1: write 4/255, not 4",
        )
