"""What each class looks like in each modality, and what follows for the best accuracy that some modalities can give."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

Task = Literal["finding", "extent"]

MODALITIES = ("mri", "ct", "spect")
NOTHING = "nothing"

# Two classes with the same word in a column look exactly alike in that modality.
APPEARANCE: dict[str, dict[str, str]] = {
    "normal": {"mri": NOTHING, "ct": NOTHING, "spect": NOTHING},
    "calcified": {"mri": NOTHING, "ct": "dense", "spect": NOTHING},
    "oedema": {"mri": "bright", "ct": NOTHING, "spect": NOTHING},
    "tumour": {"mri": "bright", "ct": NOTHING, "spect": "hot"},
    "infarct": {"mri": NOTHING, "ct": NOTHING, "spect": "cold"},
}
FINDINGS = tuple(APPEARANCE)
EXTENTS = ("none", "small", "large")
CLASSES: dict[Task, tuple[str, ...]] = {"finding": FINDINGS, "extent": EXTENTS}

# Every finding is as frequent as every other; a lesion is as often small as large.
STATES: tuple[tuple[str, str, float], ...] = tuple(
    (finding, extent, share / len(FINDINGS))
    for finding in FINDINGS
    for extent, share in ((("none", 1.0),) if finding == "normal" else (("small", 0.5), ("large", 0.5)))
)


def accuracy_bound(modalities: Iterable[str], task: Task = "finding") -> float:
    """Return the best accuracy that any method can expect from some modalities, were there no noise at all.

    Studies that look alike in all the given modalities get one answer, at best their most frequent class.

    Args:
        modalities: Of ``mri``, ``ct``, ``spect``; none at all gives the share of the most frequent class.
        task: ``finding`` or ``extent``.

    Raises:
        ValueError: An unknown modality or task.

    >>> accuracy_bound(["mri"]), accuracy_bound(["mri", "spect"]), accuracy_bound(["mri", "ct", "spect"])
    (0.4, 0.8, 1.0)
    """
    if task not in CLASSES:
        raise ValueError(f"task '{task}' is not one of {', '.join(CLASSES)}")
    seen = tuple(modalities)
    if unknown := set(seen) - set(MODALITIES):
        raise ValueError(f"no modality {', '.join(sorted(unknown))}; there are {', '.join(MODALITIES)}")
    shares: dict[tuple[object, ...], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for finding, extent, share in STATES:
        looks = [APPEARANCE[finding][modality] for modality in seen]
        # Where a lesion shows, its extent shows with it.
        look = tuple(name if name == NOTHING else (name, extent) for name in looks)
        shares[look][finding if task == "finding" else extent] += share
    return round(sum(max(answers.values()) for answers in shares.values()), 12)


def single_modality_bound(task: Task = "finding") -> dict[str, float]:
    """Return ``accuracy_bound`` of every modality alone.

    >>> single_modality_bound()
    {'mri': 0.4, 'ct': 0.4, 'spect': 0.6}
    """
    return {modality: accuracy_bound([modality], task) for modality in MODALITIES}
