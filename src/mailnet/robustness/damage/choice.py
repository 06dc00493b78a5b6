"""What a user may choose of natural damage; everything else is refused with what there is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mailnet.data.study import StudyData
from mailnet.errors import ConfigError
from mailnet.robustness.corruptions import CORRUPTIONS, SEVERITIES


def check_same(own: StudyData, other: StudyData, chosen: Sequence[str], reference: Path) -> None:
    """Refuse a reference run whose studies, labels or modalities are others."""
    if lacking := [name for name in chosen if name not in other.modalities]:
        raise ConfigError(
            f"the reference has no modality '{lacking[0]}'",
            file=reference,
            remedy=f"Choose with --modality of {', '.join(other.modalities)}",
        )
    same = np.array_equal(own.frame["row"], other.frame["row"]) and all(
        np.array_equal(own.present[name], other.present[name]) for name in chosen
    )
    tasks = [task for task in own.tasks if task in other.tasks]
    same = same and bool(tasks)
    for task in tasks:
        first, second = own.labels[task], other.labels[task]
        same = same and np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
    if not same:
        raise ConfigError(
            "the reference was trained for other studies", file=reference, remedy="Name a run of the same study.yaml"
        )


def choose_kinds(kinds: Sequence[str]) -> list[str]:
    """Return the kinds asked for in the table's order; all where none is."""
    for kind in kinds:
        if kind not in CORRUPTIONS:
            raise ConfigError(
                f"there is no kind of corruption '{kind}'", remedy=f"Choose from {', '.join(CORRUPTIONS)}"
            )
    return [kind for kind in CORRUPTIONS if not kinds or kind in kinds]


def choose_severities(severities: Sequence[int]) -> list[int]:
    """Return the severities asked for, rising; all where none is."""
    for severity in severities:
        if severity not in SEVERITIES:
            raise ConfigError(f"there is no severity {severity}", remedy="Choose 1, slight, to 5")
    return sorted(set(severities)) or list(SEVERITIES)


def choose_modalities(data: StudyData, modalities: Sequence[str]) -> list[str]:
    """Return the images and volumes asked for in the study's order; all where none is."""
    images = [name for name, spec in data.modalities.items() if spec.kind != "tabular"]
    for name in modalities:
        if name not in data.modalities:
            remedy = f"It has {', '.join(data.modalities)}"
            raise ConfigError(f"the run has no modality '{name}'", remedy=remedy)
        if name not in images:
            remedy = f"Choose from {', '.join(images)}" if images else "The run has no images"
            raise ConfigError("is a table; corruptions are of images", modality=name, remedy=remedy)
    return [name for name in images if not modalities or name in modalities]
