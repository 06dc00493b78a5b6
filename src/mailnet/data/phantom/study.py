"""A phantom study on disk, with a study.yaml ready to train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mailnet.data.phantom.classes import CLASSES, MODALITIES, single_modality_bound
from mailnet.data.phantom.generate import generate
from mailnet.files import replacing, write_text

STUDY = """\
name: phantom
description: >-
  Paired MRI, CT and SPECT-like sections of a head phantom. No modality can tell the five findings apart alone: the best
  possible accuracy is {bounds} (all findings are equally frequent); all three together have no such limit.
source: mailnet.data.phantom, seed {seed}
manifest: manifest.csv
id: study
group: study    # every study is a patient of its own
# No column says train, val or test: studies are divided at random, in proportion for every task.
split: {{train: 0.7, val: 0.1, test: 0.2, seed: 0}}
subgroups: [sex, scanner]
modalities:
  mri: {{size: {size}, augment: slice}}
  ct: {{size: {size}, augment: slice}}
  spect: {{size: {size}, augment: slice}}
tasks:
  finding: {{classes: [{finding}]}}
  extent: {{kind: ordinal, classes: [{extent}]}}
model:
  name: mail
  options: {{width: nano}}
train:
  epochs: 26
  batch_size: 32
  learning_rate: 2.0e-3
"""


def write_phantom(folder: str | Path, n: int = 2000, *, seed: int = 0, size: int = 64) -> Path:
    """Write ``images.npz`` (images and masks), ``manifest.csv`` and ``study.yaml``.

    Args:
        folder: Where to write; made if it does not exist, files of these names are replaced.
        n: Number of studies.
        seed: Seed of the studies.
        size: Side of the images in pixels.

    Returns:
        The path of study.yaml.

    Raises:
        RunError: The folder cannot be written.
    """
    folder = Path(folder)
    studies = generate(n, size=size, seed=seed)
    mri, ct, spect = (studies.images[name][:, 0] for name in MODALITIES)
    mask = np.where(studies.masks, np.uint8(255), np.uint8(0))
    with replacing(folder / "images.npz") as temporary:
        np.savez(temporary, mri=mri, ct=ct, spect=spect, mask=mask)

    table = pd.DataFrame(studies.table)
    for task, names in CLASSES.items():
        table[task] = np.array(names)[studies.labels[task]]
    for name in (*MODALITIES, "mask"):
        table[name] = [f"images.npz!{name}/{i}" for i in range(n)]
    write_text(folder / "manifest.csv", table.to_csv(index=False))

    bounds = ", ".join(f"{100 * bound:.0f}% from {name} alone" for name, bound in single_modality_bound().items())
    classes = {task: ", ".join(names) for task, names in CLASSES.items()}
    write_text(folder / "study.yaml", STUDY.format(bounds=bounds, seed=seed, size=size, **classes))
    return folder / "study.yaml"
