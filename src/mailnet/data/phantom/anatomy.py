"""A head in axial section, different in every patient: where each tissue lies, and where a lesion is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mailnet.data.phantom.fields import Array, below, smooth_field

# Tissues as layers: each is painted over those before it, so a map holds the change that its layer brings.
LAYERS = ("scalp", "skull", "csf", "grey", "white", "nuclei", "fissure", "ventricles")
SCALP, SKULL, CSF, GREY, WHITE, NUCLEI, FISSURE, VENTRICLES = range(len(LAYERS))


@dataclass(frozen=True)
class Patients:
    """The N patients of a block, drawn at random; nothing in it depends on a class.

    Args:
        age: (N,) years; ventricles and sulci widen with age.
        sex: (N,) 0 female, 1 male.
        extent: (N,) 1 small, 2 large: of the lesion that the patient has or would have.
        pose: (N, 5) rotation in radians, shift x and y, half axes x and y, all in half fields of view.
        warp: (N, 2, 7, 7) spline coefficients of the deviation from ellipses.
        folds: (N, 20, 20) spline coefficients of sulci and small spots.
        lesion: (N, 6) of the lesion: polar angle, squared polar radius, radius, aspect, orientation, roughness.
    """

    age: Array
    sex: Array
    extent: Array
    pose: Array
    warp: Array
    folds: Array
    lesion: Array


@dataclass(frozen=True)
class Heads:
    """What the scanners see of the N patients.

    Args:
        layers: (N, L, H, W) weight of every layer of ``LAYERS`` in [0, 1].
        lesion: (N, H, W) weight of the place of the lesion, within brain tissue.
        folds: (N, H, W) the smooth field that shaped the sulci.
        x: (N, H, W) and y: position in the patient, half axes of the head being 1.
        radius: (N, H, W) distance from the centre, 1 on the skin.
    """

    layers: Array
    lesion: Array
    folds: Array
    x: Array
    y: Array
    radius: Array


def draw_patients(random: np.random.Generator, n: int) -> Patients:
    """Draw n patients."""

    def uniform(low: float, high: float) -> Array:
        return random.uniform(low, high, n).astype(np.float32)

    extent = random.integers(1, 3, n).astype(np.float32)
    pose = [uniform(-0.2, 0.2), uniform(-0.03, 0.03), uniform(-0.03, 0.03), uniform(0.70, 0.78), uniform(0.84, 0.92)]
    radius = np.where(extent == 1, uniform(0.125, 0.155), uniform(0.23, 0.29))
    lesion = [uniform(0, 2 * np.pi), uniform(0.06, 0.36), radius, uniform(1, 1.5), uniform(0, np.pi), uniform(0, 0.25)]
    return Patients(
        age=np.round(uniform(25, 85)),
        sex=random.integers(0, 2, n).astype(np.float32),
        extent=extent,
        pose=np.stack(pose, axis=1).astype(np.float32),
        warp=random.standard_normal((n, 2, 7, 7), dtype=np.float32),
        folds=random.standard_normal((n, 20, 20), dtype=np.float32),
        lesion=np.stack(lesion, axis=1).astype(np.float32),
    )


def draw_heads(patients: Patients, size: int) -> Heads:
    """Return the sections of the patients' heads on a grid of size x size pixels."""
    x, y = _coordinates(patients, size)
    y_squared = y * y
    radius = np.sqrt(x * x + y_squared)
    side = np.abs(x)
    folds = smooth_field(patients.folds, size)
    sharpness = 0.4 * size
    old = ((patients.age - 25) / 60)[:, None, None]

    layers = np.empty((len(x), len(LAYERS), size, size), dtype=np.float32)
    layer = layers.swapaxes(0, 1)
    for name, limit in ((SCALP, 1.0), (SKULL, 0.94), (CSF, 0.85)):
        below(radius, limit, sharpness, out=layer[name])
    # Sulci are cut where the field of folds is high, deeper with age.
    cortex = np.clip(folds - (0.25 - 0.1 * old), 0, 0.5)
    cortex *= 0.18 + 0.1 * old
    cortex += radius
    below(cortex, 0.83 - 0.02 * old, sharpness, out=layer[GREY])
    midline = below(side, 0.06, sharpness) * below(-radius, -0.42, sharpness)
    cortex += 0.12 * folds
    below(cortex, 0.68 - 0.02 * old, sharpness, out=layer[WHITE])
    layer[WHITE] *= 1 - midline
    below(side, 0.014 + 0.008 * old, sharpness, out=layer[FISSURE])
    layer[FISSURE] *= midline
    layer[FISSURE] *= layer[GREY]
    # Lateral ventricles: two crescents that part from the midline in front and behind.
    width = 0.045 + 0.05 * old
    crescent = _ellipse(side - 0.35 * y_squared, y, (0.05 + width, -0.03), (width, 0.32 + 0.06 * old))
    below(crescent, 1.0, sharpness * 0.04, out=layer[VENTRICLES])
    outside = 1 - layer[VENTRICLES]
    below(_ellipse(side, y, (0.27, -0.02), (0.09, 0.2)), 1.0, sharpness * 0.06, out=layer[NUCLEI])
    layer[NUCLEI] *= outside

    lesion = _lesion(patients.lesion, x, y, folds, sharpness)
    lesion *= layer[GREY]
    lesion *= outside
    return Heads(layers, lesion, folds, x, y, radius)


def _ellipse(
    x: Array, y: Array, centre: tuple[Array | float, float], half: tuple[Array | float, Array | float]
) -> Array:
    across, down = (x - centre[0]) * (1 / half[0]), (y - centre[1]) * (1 / half[1])
    return np.asarray(across * across + down * down)


def _coordinates(patients: Patients, size: int) -> tuple[Array, Array]:
    # A cubic spline reproduces straight lines, so pose and warp are one spline.
    knots = patients.warp.shape[-1]
    line = ((np.arange(knots, dtype=np.float32) - 1) / (knots - 3) * 2 - 1).astype(np.float32)
    angle, shift_x, shift_y, half_x, half_y = (patients.pose[:, k, None, None] for k in range(5))
    across, down = line[None, None, :] - shift_x, line[None, :, None] - shift_y
    cosine, sine = np.cos(angle), np.sin(angle)
    place = np.stack([(cosine * across + sine * down) / half_x, (cosine * down - sine * across) / half_y], axis=1)
    x, y = smooth_field(place + np.float32(0.035) * patients.warp, size).swapaxes(0, 1)
    # A head is narrower in front.
    x *= 1.04 - 0.1 * y
    return x, y


def _lesion(lesion: Array, x: Array, y: Array, folds: Array, sharpness: float) -> Array:
    angle, squared, radius, aspect, orientation, roughness = (lesion[:, k, None, None] for k in range(6))
    centre = np.sqrt(squared)
    dx, dy = x - centre * np.cos(angle), y - centre * np.sin(angle)
    cosine, sine = np.cos(orientation) / radius, np.sin(orientation) / radius
    along = (cosine / aspect) * dx + (sine / aspect) * dy
    across = (cosine * aspect) * dy - (sine * aspect) * dx
    distance = np.sqrt(along * along + across * across)
    distance += roughness * folds
    return below(distance, 1.0, sharpness * 0.06)
