"""What three scanners make of a head: MRI, CT and SPECT, each with its own contrast, artefacts and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mailnet.data.phantom.anatomy import FISSURE, LAYERS, NUCLEI, VENTRICLES, Heads
from mailnet.data.phantom.classes import APPEARANCE, FINDINGS, NOTHING
from mailnet.data.phantom.fields import Array, below, blur_and_bin, gaussian_noise, smooth_field, spline_basis

# Signal of each layer: MRI as in FLAIR (water is dark), CT in Hounsfield units, SPECT as tracer uptake.
#                scalp  skull  csf   grey  white  nuclei fissure ventricles
MRI = np.array([0.55, 0.06, 0.10, 0.52, 0.40, 0.47, 0.12, 0.10], dtype=np.float32)
CT = np.array([20.0, 900.0, 6.0, 38.0, 28.0, 37.0, 8.0, 6.0], dtype=np.float32)
SPECT = np.array([0.12, 0.06, 0.10, 1.00, 0.62, 0.95, 0.60, 0.10], dtype=np.float32)
AIR = {"mri": 0.0, "ct": -1000.0, "spect": 0.0}

CT_WINDOW = (-20.0, 120.0)
SCANNERS = ("1.5T", "3T")
# Of the SPECT camera: bins a side, counts of grey matter in a bin, standard deviation of its blur in fields of view.
MATRIX = 36
COUNTS = 120.0
RESOLUTION = 0.024


@dataclass(frozen=True)
class Acquisition:
    """Random numbers of the scans of N patients; nothing in it depends on a class.

    Args:
        scanner: (N,) index in ``SCANNERS`` of the MRI machine; the weaker has more noise.
        contrast: (N, 3) in [0, 1]: how strongly a lesion shows in MRI, CT and SPECT, from hardly to plainly.
        gain: (N, 3) of MRI, the cupping of CT and of SPECT.
        bias: (N, 5, 5) spline coefficients of the MRI bias field.
        uptake: (N, 9, 9) spline coefficients of the uneven uptake.
        streak: (N, 3) direction, offset and strength of a streak in CT.
        pineal: (N, 3) place and density of a normal calcification, in some patients.
    """

    scanner: Array
    contrast: Array
    gain: Array
    bias: Array
    uptake: Array
    streak: Array
    pineal: Array


def draw_acquisition(random: np.random.Generator, n: int) -> Acquisition:
    """Draw the circumstances of n examinations."""

    def uniform(low: float, high: float, *shape: int) -> Array:
        return random.uniform(low, high, (n, *shape)).astype(np.float32)

    pineal = np.stack([uniform(-0.03, 0.03), uniform(0.14, 0.24), uniform(20, 90)], axis=1)
    pineal[:, 2] *= uniform(0, 1) < 0.4
    return Acquisition(
        scanner=random.integers(0, 2, n).astype(np.float32),
        contrast=uniform(0, 1, 3),
        gain=np.stack([uniform(0.85, 1.15), uniform(2, 12), uniform(0.85, 1.15)], axis=1),
        bias=random.standard_normal((n, 5, 5), dtype=np.float32),
        uptake=random.standard_normal((n, 9, 9), dtype=np.float32),
        streak=np.stack([uniform(0, np.pi), uniform(-0.5, 0.5), uniform(-8, 8)], axis=1),
        pineal=pineal.astype(np.float32),
    )


def looks(findings: npt.NDArray[np.int64], modality: str) -> dict[str, Array]:
    """Return for every appearance of a modality (N,) 1 where the finding has it, else 0."""
    table = [APPEARANCE[name][modality] for name in FINDINGS]
    kinds = sorted(set(table) - {NOTHING})
    return {kind: np.array([name == kind for name in table], dtype=np.float32)[findings] for kind in kinds}


def scan_mri(
    heads: Heads, scans: Acquisition, findings: npt.NDArray[np.int64], random: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Return (N, H, W) magnitude images with a bias field and Rician noise.

    Source:
        Gudbjartsson and Patz: The Rician distribution of noisy MRI data, Magn Reson Med 1995.
    """
    signal = _paint(heads, MRI, AIR["mri"])
    rise = looks(findings, "mri")["bright"] * (0.09 + 0.17 * scans.contrast[:, 0])
    signal += rise[:, None, None] * heads.lesion
    # Small bright foci of white matter, as most people have.
    signal += (np.clip(heads.folds - 0.95, 0, 0.5) * 0.5) * heads.layers[:, LAYERS.index("white")]
    bias = smooth_field(scans.bias, signal.shape[-1])
    bias *= np.float32(0.22)
    bias += 1
    signal *= bias
    sigma = (0.045 - 0.02 * scans.scanner)[:, None, None]
    noise = gaussian_noise(random, (2, *signal.shape))
    noise *= sigma
    signal += noise[0]
    magnitude = np.sqrt(signal * signal + noise[1] * noise[1])
    return _to_bytes(magnitude * scans.gain[:, 0, None, None], 0.0, 0.95)


def scan_ct(
    heads: Heads, scans: Acquisition, findings: npt.NDArray[np.int64], random: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Return (N, H, W) images in the brain window, with cupping and a streak from beam hardening and Gaussian noise."""
    density = _paint(heads, CT, AIR["ct"])
    rise = looks(findings, "ct")["dense"] * (14 + 50 * scans.contrast[:, 1])
    density += rise[:, None, None] * heads.lesion
    place_x, place_y, dense = (scans.pineal[:, k, None, None] for k in range(3))
    dx, dy = heads.x - place_x, heads.y - place_y
    density += dense * below(dx * dx + dy * dy, 0.045**2, 4.4 * density.shape[-1])
    hardening = scans.gain[:, 1, None, None] * (heads.radius * heads.radius - 0.5)
    angle, offset, strength = (scans.streak[:, k, None, None] for k in range(3))
    across = (np.cos(angle) * heads.x + np.sin(angle) * heads.y - offset) / 0.09
    hardening += strength * across / (1 + across * across) * 2
    density += hardening * heads.layers[:, LAYERS.index("skull")]
    density += 7 * gaussian_noise(random, density.shape)
    return _to_bytes(density, *CT_WINDOW)


def scan_spect(
    heads: Heads, scans: Acquisition, findings: npt.NDArray[np.int64], random: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Return (N, H, W) images of low resolution: uptake, blurred, counted on a coarse matrix, smoothed."""
    size = heads.x.shape[-1]
    uptake = _paint(heads, SPECT, AIR["spect"])
    look, contrast = looks(findings, "spect"), scans.contrast[:, 2]
    wanted = look["hot"] * (1.25 + 0.5 * contrast) + look["cold"] * (0.2 - 0.2 * contrast)
    weight = (look["hot"] + look["cold"])[:, None, None] * heads.lesion
    uptake += weight * (wanted[:, None, None] - uptake)
    matrix = min(size, MATRIX)
    detector = blur_and_bin(size, matrix, RESOLUTION * size)
    expected = detector @ (uptake @ detector.T)
    uneven = smooth_field(scans.uptake, matrix)
    uneven *= np.float32(0.16)
    uneven += 1
    expected *= uneven
    counts_per_bin = COUNTS * (MATRIX / matrix) ** 2
    expected *= np.float32(counts_per_bin)
    # Soft edges of layers that cross may undershoot zero a little.
    counts = random.poisson(np.maximum(expected, 0)).astype(np.float32)
    smooth = _post_filter(size, matrix)
    image = smooth @ (counts @ smooth.T)
    return _to_bytes(image * (scans.gain[:, 2, None, None] / counts_per_bin), 0.0, 1.5)


def _post_filter(size: int, matrix: int) -> Array:
    inner = np.zeros((matrix + 2, matrix), dtype=np.float32)
    inner[1:-1] = np.eye(matrix, dtype=np.float32)
    return np.asarray(spline_basis(size, matrix + 2) @ inner)


def _paint(heads: Heads, values: Array, air: float) -> Array:
    n, layers, height, width = heads.layers.shape
    # What a layer changes is its value less that of the tissue it lies in.
    under = np.concatenate([[air], values[:-1]]).astype(np.float32)
    under[NUCLEI] = under[VENTRICLES] = values[LAYERS.index("white")]
    under[FISSURE] = values[LAYERS.index("grey")]
    change = values - under
    image = change @ heads.layers.reshape(n, layers, height * width) + np.float32(air)
    return np.asarray(image, dtype=np.float32).reshape(n, height, width)


def _to_bytes(image: Array, low: float, high: float) -> npt.NDArray[np.uint8]:
    scaled = (image - np.float32(low)) * np.float32(255 / (high - low))
    scaled += np.float32(0.5)
    return np.asarray(np.clip(scaled, 0, 255), dtype=np.uint8)
