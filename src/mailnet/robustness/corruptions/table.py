"""Every corruption with its five strengths: the one place where these numbers stand.

Sources: Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations",
ICLR 2019 (ImageNet-C), whose strengths of noise, contrast, pixelation and JPEG these are; lengths are shares of the
side, so that they mean the same at every size; Perez-Garcia et al., "TorchIO", Comput Methods Programs Biomed 2021,
and MONAI for what happens in MR scanners; after Di Salvo et al., "MedMNIST-C", 2024, where each is met.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from mailnet.robustness.corruptions import detail, noise, picture, scanner, tomography

SEVERITIES = (1, 2, 3, 4, 5)
Change: TypeAlias = Callable[[Tensor, float, torch.Generator], Tensor]


@dataclass(frozen=True)
class Corruption:
    """A kind of damage.

    Args:
        change: Does it to (B, C, H, W) or (B, C, D, H, W) in [0, 1]; may leave the range a little.
        values: What ``change`` is given at the severities 1 to 5.
        meaning: Of these values.
        occurs: Where it is met.
    """

    change: Change
    values: tuple[float, float, float, float, float]
    meaning: str
    occurs: str


ANY = "any image"
MR, CT = "MR", "CT"
CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(noise.gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38), "deviation", ANY),
    "rician_noise": Corruption(noise.rician_noise, (0.05, 0.08, 0.12, 0.18, 0.26), "deviation of each part", MR),
    "shot_noise": Corruption(noise.shot_noise, (60, 25, 12, 5, 3), "counts at white", "X-ray, CT, SPECT, PET"),
    "speckle_noise": Corruption(noise.speckle_noise, (0.15, 0.2, 0.35, 0.45, 0.6), "deviation", "ultrasound"),
    "blur": Corruption(detail.blur, (0.008, 0.012, 0.016, 0.02, 0.03), "deviation / side", ANY),
    "motion_blur": Corruption(detail.motion_blur, (0.03, 0.05, 0.08, 0.11, 0.15), "length / side", "X-ray, photos"),
    "pixelate": Corruption(detail.pixelate, (0.6, 0.5, 0.4, 0.3, 0.25), "share of pixels kept a side", ANY),
    "jpeg": Corruption(detail.jpeg, (25, 18, 15, 10, 7), "quality", "exported and sent images"),
    "bias_field": Corruption(scanner.bias_field, (0.1, 0.2, 0.3, 0.4, 0.5), "largest coefficient", MR),
    "ghosting": Corruption(scanner.ghosting, (0.2, 0.35, 0.5, 0.75, 1.0), "share of the lines lost", MR),
    "motion": Corruption(scanner.motion, (0.005, 0.01, 0.015, 0.025, 0.04), "deviation of shifts / side", MR),
    "gibbs": Corruption(scanner.gibbs, (0.5, 0.6, 0.7, 0.76, 0.82), "share of k-space lost", MR),
    "ring": Corruption(tomography.ring, (0.03, 0.06, 0.1, 0.15, 0.2), "deviation of rings", CT),
    "metal": Corruption(tomography.metal, (0.1, 0.2, 0.3, 0.45, 0.6), "deviation of rays", CT),
    "window": Corruption(tomography.window, (0.15, 0.3, 0.5, 0.7, 0.9), "share, see there", "CT, X-ray"),
    "gamma": Corruption(picture.gamma, (0.3, 0.6, 0.9, 1.2, 1.6), "octaves of the exponent", ANY),
    "contrast": Corruption(picture.contrast, (0.4, 0.3, 0.2, 0.1, 0.05), "share of the spread kept", ANY),
    "occlusion": Corruption(picture.occlusion, (0.02, 0.05, 0.1, 0.2, 0.3), "share covered", ANY),
    "rotation": Corruption(picture.rotation, (5, 10, 15, 20, 30), "degrees", ANY),
}
