"""What an explanation is: how much each pixel and each column of each modality speaks for a class."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Explanation:
    """Why a network answered so, for a batch of studies and one task.

    Maps are densities: what the whole image would be worth if all of it were like this pixel. So the mean over a map,
    not its sum, is what the modality is worth, and images of different sizes or of different grids may share one scale.
    The unit is that of ``mailnet.explain.score``, log-odds, of the class (of a saliency, log-odds per unit of
    intensity; of EMCAM's attention, see there).

    Args:
        task: The task.
        target: (B,) int64, the class explained of each study.
        method: Name of the method.
        maps: Image or volume -> (B, H, W) or (B, D, H, W) at input resolution, channels summed: above zero where it
            speaks for the class, below zero where against it, if the method tells the two apart. In the same unit for
            all modalities of a study, so that they may share one scale. Zero where a study lacks the modality.
        columns: Table -> (B, F), what each of its features is worth.
        signed: Whether values below zero mean something.
        score: (B,), the log-odds of the class that are explained, the mean over draws.
        residual: (B,), of methods whose values should add up (``integrated_gradients``): the sum of ``totals`` minus
            the score's difference to the baseline's. None for others.
        stages: Image or volume -> maps like those of ``maps``, of each stage from fine to coarse, where ``maps`` were
            made of several.
    """

    task: str
    target: Tensor
    method: str
    maps: dict[str, Tensor] = field(default_factory=dict)
    columns: dict[str, Tensor] = field(default_factory=dict)
    signed: bool = False
    score: Tensor | None = None
    residual: Tensor | None = None
    stages: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)

    def totals(self) -> dict[str, Tensor]:
        """Return modality -> (B,), what each is worth: the mean over its map, the sum over its columns.

        Of ``integrated_gradients`` they add up to the score minus that of the baseline, but for ``residual``.
        """
        found = {name: values.flatten(1).mean(1) for name, values in self.maps.items()}
        return found | {name: values.sum(1) for name, values in self.columns.items()}
