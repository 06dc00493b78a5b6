"""How images were made, where that tells the label or the split: size, kind of file, folder, brightness."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from mailnet.data.check.columns import ACQUISITION, Labels
from mailnet.data.check.findings import Finding
from mailnet.data.check.pictures import Pictures
from mailnet.data.check.predictor import binned, chance
from mailnet.data.config import SPLITS
from mailnet.data.locations import split_location, split_plane
from mailnet.data.values import canonical

# Brightness is part of many findings, so only one that nearly is the label is worth a word; between splits that were
# drawn at random it hardly differs.
BRIGHTNESS = 0.9
DRIFT = 0.6
SATURATED = 0.2
NARROW = 0.1  # of the range: what is left of MR whose 12 bits lie in 16
FEW = 20


def judge_images(
    name: str,
    pictures: Pictures,
    tasks: Sequence[Labels],
    splits: np.ndarray,
    class_names: Sequence[str],
    root: str,
) -> Iterator[Finding]:
    """Yield what the making of a modality's images gives away.

    Args:
        name: The modality.
        pictures: Its images.
        tasks: Labels of training rows.
        splits: (N,) int, number of the split of every row; -1 where unknown.
        class_names: Names and values of classes; a folder that is called like one is no confounder.
        root: The data root.
    """
    usable = np.zeros(len(pictures.file), bool)
    usable[pictures.usable] = True
    facts = {"size of the files": _sizes(pictures), "kind of file": _kinds(pictures)}
    facts |= {f"folder level {k + 1}": c for k, c in _folders(pictures, class_names, root).items()}
    facts = {what: codes for what, codes in facts.items() if len(codes) and codes.max() > 0}
    brightness = binned(pictures.mean) if len(pictures.mean) else np.zeros(0, np.int64)
    least = chance((len(facts) + 1) * max(len(tasks), 1))
    for labels in tasks:
        known = usable[labels.rows]
        files = np.maximum(pictures.file[labels.rows], 0)
        for what, codes in facts.items():
            found = labels.score(codes[files], known)
            if found and found.z > least and found.auroc >= ACQUISITION[0]:
                yield Finding(
                    "leak" if found.auroc >= ACQUISITION[1] else "caution",
                    "confounded",
                    f"the {what} tells '{labels.classes[found.label]}' with an AUROC of {found.auroc:.2f} by itself; a "
                    "network can learn it in place of the disease",
                    "Take all classes from the same sources, or bring the images to one form before they are prepared",
                    modality=name,
                    task=labels.task,
                    numbers={
                        "auroc": round(found.auroc, 3), "class": labels.classes[found.label], "what": what,
                        "n": found.n,
                    },
                )  # fmt: skip
        found = labels.score(brightness[files], known) if len(brightness) else None
        if found and found.z > least and found.auroc >= BRIGHTNESS:
            yield Finding(
                "caution",
                "brightness",
                f"the mean brightness alone tells '{labels.classes[found.label]}' with an AUROC of {found.auroc:.2f}",
                "Make sure that this is the disease and not how the images were made",
                modality=name,
                task=labels.task,
                numbers={"auroc": round(found.auroc, 3), "class": labels.classes[found.label], "n": found.n},
            )
    yield from _intensity(name, pictures, splits)


def _sizes(pictures: Pictures) -> np.ndarray:
    shape = pictures.shape.astype(np.int64)
    # Volumes of one scanner differ in their number of planes.
    return np.asarray(pd.factorize(shape[:, 1] * 2**32 + shape[:, 2])[0])


def _kinds(pictures: Pictures) -> np.ndarray:
    def kind(location: str) -> str:
        path, member = split_location(split_plane(location)[0])
        return os.path.splitext(member or path)[1].lower().replace("jpeg", "jpg")

    return np.asarray(pd.factorize(pictures.locations.map(kind))[0])


def _folders(pictures: Pictures, class_names: Sequence[str], root: str) -> dict[int, np.ndarray]:
    """Return level -> code of the folder there, leaving out levels that are named like classes or splits."""
    prefix = root.rstrip(os.sep) + os.sep

    def folder(location: str) -> str:
        path, member = split_location(split_plane(location)[0])
        text = f"{path.removeprefix(prefix)}/{member}" if member is not None else path.removeprefix(prefix)
        return text.replace(os.sep, "/").rpartition("/")[0]

    codes, folders = pd.factorize(pictures.locations.map(folder))
    parts = [str(name).split("/") for name in folders]
    words = {canonical(name).lower() for name in (*class_names, *SPLITS)}
    found = {}
    for level in range(max((len(part) for part in parts), default=0)):
        names = [part[level] if level < len(part) else "" for part in parts]
        distinct = set(names)
        like_classes = any(any(word and word in name.lower() for word in words) for name in distinct)
        # A folder a patient is no source.
        if 1 < len(distinct) <= max(FEW, len(names) // FEW) and not like_classes:
            found[level] = np.asarray(pd.factorize(np.array(names, dtype=object))[0])[codes]
    return found


def _intensity(name: str, pictures: Pictures, splits: np.ndarray) -> Iterator[Finding]:
    rows = pictures.usable
    files = pictures.file[rows]
    constant = rows[pictures.constant[files]]
    if len(constant):
        yield Finding(
            "caution",
            "constant",
            f"{len(constant)} of {len(rows)} images have one value everywhere",
            "Look at them; leave empty images out",
            modality=name,
            numbers={"images": len(constant)},
            places=constant[:, None],
        )
    saturated = rows[(pictures.bright[files] > SATURATED) & ~pictures.constant[files]]
    if len(saturated):
        yield Finding(
            "caution",
            "saturated",
            f"{len(saturated)} of {len(rows)} images have more than {SATURATED:.0%} of their area at the highest value",
            "See whether 'range' or 'window' cuts off values that matter",
            modality=name,
            numbers={"images": len(saturated), "n": len(rows)},
            places=saturated[:, None],
        )
    spread = float(np.median(pictures.spread[files])) if len(rows) else 1.0
    if 0 < spread < NARROW:
        yield Finding(
            "caution",
            "narrow",
            f"the values of a typical image fill {spread:.1%} of the range that is mapped to 0 and 1: nearly one grey",
            "Declare the modality's 'range' or 'window', or 'percentiles' for values without units, as of MR",
            modality=name,
            numbers={"spread": round(spread, 4), "n": len(rows)},
        )
    means = pictures.mean[files].astype(np.float64)
    training = means[splits[rows] == 0]
    for k, split in enumerate(SPLITS[1:], start=1):
        tested = means[splits[rows] == k]
        if len(tested) < FEW or len(training) < FEW:
            continue
        area = _greater(tested, training)
        error = np.sqrt((len(tested) + len(training) + 1) / (12 * len(tested) * len(training)))
        if abs(area - 0.5) > max(DRIFT - 0.5, chance(2) * error):
            yield Finding(
                "caution",
                "brightness",
                f"images of the split '{split}' are {'brighter' if area > 0.5 else 'darker'} than those of training "
                f"(mean {tested.mean():.2f} against {training.mean():.2f} of the range)",
                "See whether they come from another source; results then say how well that transfers",
                modality=name,
                numbers={"auroc": round(area, 3), split: round(float(tested.mean()), 3),
                         "train": round(float(training.mean()), 3)},
            )  # fmt: skip


def _greater(first: np.ndarray, second: np.ndarray) -> float:
    """Return the chance that a value of ``first`` is above one of ``second``."""
    ordered = np.sort(second)
    below = np.searchsorted(ordered, first, side="left") + np.searchsorted(ordered, first, side="right")
    return float(below.mean() / 2 / len(second))
