"""Any number of phantom studies, each a function of the seed and its own number alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mailnet.data.phantom.anatomy import draw_heads, draw_patients
from mailnet.data.phantom.classes import EXTENTS, FINDINGS
from mailnet.data.phantom.physics import SCANNERS, draw_acquisition, scan_ct, scan_mri, scan_spect

# Studies are made in blocks of this many: every block holds each finding equally often.
BLOCK = 20


@dataclass(frozen=True)
class PhantomStudies:
    """N studies of a head phantom.

    Args:
        images: ``mri``, ``ct``, ``spect`` -> (N, 1, H, W) uint8. MRI is a magnitude, CT the brain window -20 to 120 HU,
            SPECT counts.
        masks: (N, H, W) bool, the place of the lesion; empty for ``normal``.
        labels: Task -> (N,) int64, an index in ``mailnet.data.phantom.CLASSES[task]``.
        table: ``study``, ``age`` in years, ``sex``, ``scanner`` -> (N,); none says anything about a label.
    """

    images: dict[str, npt.NDArray[np.uint8]]
    masks: npt.NDArray[np.bool_]
    labels: dict[str, npt.NDArray[np.int64]]
    table: dict[str, npt.NDArray[np.generic]]

    def __len__(self) -> int:
        return len(self.masks)


def generate(n: int, *, size: int = 96, seed: int = 0, start: int = 0) -> PhantomStudies:
    """Generate the studies number ``start`` to ``start + n - 1``.

    Args:
        n: Number of studies, at least 1.
        size: Side of the images in pixels, at least 32.
        seed: Any whole number from 0; with the number of a study it decides everything about it.
        start: Number of the first study.

    Raises:
        ValueError: An argument is out of its range.

    >>> generate(3, size=32).images["ct"].shape
    (3, 1, 32, 32)
    """
    if n < 1 or start < 0 or seed < 0:
        raise ValueError(f"n must be at least 1, start and seed at least 0; got {n}, {start}, {seed}")
    if size < 32:
        raise ValueError(f"size must be at least 32 pixels, got {size}")
    pieces = list(_pieces(n, size, seed, start))
    first = pieces[0]
    return PhantomStudies(
        {name: np.concatenate([piece.images[name] for piece in pieces]) for name in first.images},
        np.concatenate([piece.masks for piece in pieces]),
        {task: np.concatenate([piece.labels[task] for piece in pieces]) for task in first.labels},
        {name: np.concatenate([piece.table[name] for piece in pieces]) for name in first.table},
    )


def make_block(seed: int, block: int, size: int, findings: npt.NDArray[np.int64] | None = None) -> PhantomStudies:
    """Return the ``BLOCK`` studies of a block, with other findings than drawn where given.

    Everything random is drawn without regard to the findings, so two findings that share an appearance in MRI or CT
    give the very same image there.
    """
    # Streams of their own for each scanner: how many numbers one takes changes nothing elsewhere.
    streams = np.random.SeedSequence([seed, block]).spawn(4)
    random, mri, ct, spect = (np.random.Generator(np.random.SFC64(stream)) for stream in streams)
    drawn = random.permutation(np.arange(BLOCK, dtype=np.int64) % len(FINDINGS))
    patients, scans = draw_patients(random, BLOCK), draw_acquisition(random, BLOCK)
    findings = drawn if findings is None else findings
    heads = draw_heads(patients, size)
    images = {
        "mri": scan_mri(heads, scans, findings, mri),
        "ct": scan_ct(heads, scans, findings, ct),
        "spect": scan_spect(heads, scans, findings, spect),
    }
    lesion = findings != FINDINGS.index("normal")
    extent = np.where(lesion, patients.extent, EXTENTS.index("none")).astype(np.int64)
    table: dict[str, npt.NDArray[np.generic]] = {
        "study": np.array([f"phantom-{block * BLOCK + i:06d}" for i in range(BLOCK)]),
        "age": patients.age.astype(np.int64),
        "sex": np.where(patients.sex == 1, "male", "female"),
        "scanner": np.array(SCANNERS)[scans.scanner.astype(np.int64)],
    }
    masks = (heads.lesion > 0.5) & lesion[:, None, None]
    return PhantomStudies(
        {name: image[:, None] for name, image in images.items()}, masks, {"finding": findings, "extent": extent}, table
    )


def _pieces(n: int, size: int, seed: int, start: int) -> Iterator[PhantomStudies]:
    for block in range(start // BLOCK, (start + n - 1) // BLOCK + 1):
        whole = make_block(seed, block, size)
        keep = slice(max(start - block * BLOCK, 0), min(start + n - block * BLOCK, BLOCK))
        yield PhantomStudies(
            {name: image[keep] for name, image in whole.images.items()},
            whole.masks[keep],
            {task: labels[keep] for task, labels in whole.labels.items()},
            {name: column[keep] for name, column in whole.table.items()},
        )
