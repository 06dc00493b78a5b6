"""Small made-up studies whose labels can be learnt from their images and table."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

FINDINGS = ("none", "left", "right")
GRADES = ("low", "high")

Command = Callable[..., tuple[int, str, str]]  # arguments of the command line -> exit status, stdout, stderr


def write_study(
    folder: Path, *, regime: str = "paired", n: int = 60, size: int = 32, seed: int = 0, **changes: Any
) -> Path:
    """Write images, ``studies.csv`` and ``study.yaml`` and return the path of the latter.

    The images are ``ct`` (grey; a disc left, right or nowhere is the task ``finding``) and ``photo`` (colour;
    its redness is the task ``grade``). The table ``clinical`` has ``age`` (higher with a high grade, sometimes missing)
    and ``site``. Every block of six rows holds each pair of labels once; of five blocks three are training, one
    validation, one test.

    Args:
        folder: Where to write; made if it does not exist.
        regime: ``paired`` (one row has everything) or ``unpaired`` (n rows of ``ct``, half as many of ``photo`` and of
            ``clinical``, whose task is ``risk``).
        n: Number of studies; at least 30 so that no split is empty (60 when unpaired), in steps of 6.
        size: Side of the images in pixels.
        seed: Of noise and ages.
        changes: Merged into the values of study.yaml, dicts key by key: ``train={"epochs": 1}``.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    rows = paired_rows(folder, n, size, random) if regime == "paired" else unpaired_rows(folder, n, size, random)
    write_table(folder / "studies.csv", rows)
    values = merge(study_values(regime, size), changes)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def study_values(regime: str, size: int) -> dict[str, Any]:
    """The values of study.yaml that fit the made-up table."""
    values: dict[str, Any] = {
        "name": "made-up",
        "manifest": "studies.csv",
        "regime": regime,
        "id": "study",
        "group": "patient",
        "split": "split",
        "subgroups": ["site"],
        "modalities": {
            "ct": {"size": size},
            "photo": {"channels": 3, "size": size},
            "clinical": {"kind": "tabular", "numeric": ["age"], "categorical": ["site"]},
        },
        "tasks": {"finding": {"classes": list(FINDINGS)}, "grade": {"kind": "binary", "classes": list(GRADES)}},
        "model": {"name": "mail", "options": {"width": "nano"}},
        "train": {"epochs": 2, "batch_size": 12},
    }
    if regime == "unpaired":
        values["tasks"]["risk"] = {"kind": "binary", "classes": list(GRADES)}
        del values["group"]
    return values


def paired_rows(folder: Path, n: int, size: int, random: np.random.Generator) -> list[dict[str, Any]]:
    """One row a study with both images and the table; two studies a patient."""
    return [
        {
            "study": f"s{i:03d}",
            "patient": f"p{i // 2:03d}",
            "split": split_of(i),
            "ct": save(folder, f"images/ct{i:03d}.png", ct_image(finding_of(i), size, random)),
            "photo": save(folder, f"images/photo{i:03d}.png", photo_image(grade_of(i), size, random)),
            **clinical(grade_of(i), i, random),
            "finding": FINDINGS[finding_of(i)],
            "grade": GRADES[grade_of(i)],
        }
        for i in range(n)
    ]


def unpaired_rows(folder: Path, n: int, size: int, random: np.random.Generator) -> list[dict[str, Any]]:
    """Rows with one modality and one label each."""
    half = n // 12 * 6
    rows: list[dict[str, Any]] = []
    for i in range(n):
        path = save(folder, f"images/ct{i:03d}.png", ct_image(finding_of(i), size, random))
        rows.append({"study": f"ct{i:03d}", "split": split_of(i), "ct": path, "finding": FINDINGS[finding_of(i)]})
    for i in range(half):
        path = save(folder, f"images/photo{i:03d}.png", photo_image(grade_of(i), size, random))
        rows.append({"study": f"photo{i:03d}", "split": split_of(i), "photo": path, "grade": GRADES[grade_of(i)]})
    for i in range(half):
        row = {"study": f"cl{i:03d}", "split": split_of(i), "risk": GRADES[grade_of(i)]}
        rows.append(row | clinical(grade_of(i), i, random))
    return rows


def finding_of(i: int) -> int:
    """Label of ``finding`` of row i."""
    return i % 3


def grade_of(i: int) -> int:
    """Label of ``grade`` (and of ``risk``) of row i."""
    return i // 3 % 2


def split_of(i: int) -> str:
    """Split of row i: whole blocks of six."""
    return ("train", "train", "train", "val", "test")[i // 6 % 5]


def clinical(grade: int, i: int, random: np.random.Generator) -> dict[str, Any]:
    """Age, missing in every ninth row, and site."""
    age = "" if i % 9 == 8 else round(float(random.normal(45 + 25 * grade, 8)), 1)
    return {"age": age, "site": ("north", "south")[i % 2]}


def ct_image(finding: int, size: int, random: np.random.Generator) -> np.ndarray:
    """(size, size) uint8: noise, and a bright disc on the left (1) or right (2)."""
    image = random.normal(60, 12, (size, size))
    if finding:
        y, x = np.mgrid[:size, :size]
        centre = size * (0.25 if finding == 1 else 0.75)
        image[(y - size / 2) ** 2 + (x - centre) ** 2 < (size / 6) ** 2] += 120
    return image.clip(0, 255).astype(np.uint8)


def photo_image(grade: int, size: int, random: np.random.Generator) -> np.ndarray:
    """(size, size, 3) uint8: noise, redder for a high grade."""
    image = random.normal(100, 15, (size, size, 3))
    image[..., 0] += 60 * grade
    return image.clip(0, 255).astype(np.uint8)


def save(folder: Path, name: str, image: np.ndarray) -> str:
    """Write an image and return its name as the manifest holds it."""
    Image.fromarray(image).save(folder / name)
    return name


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV; a key that a row lacks is an empty cell."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def read_table(path: Path) -> list[dict[str, str]]:
    """Read what ``write_table`` wrote, every cell as text, for a test to change."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def merge(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return ``values`` with ``changes``, dicts merged key by key; None removes a key."""
    merged = dict(values)
    for key, change in changes.items():
        old = merged.get(key)
        if change is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(old, change) if isinstance(old, dict) and isinstance(change, dict) else change
    return merged
