"""What stands in the place of an input of which nothing is to be known.

No fill says nothing. Black is darkness, which a network may read as a cyst or as air, and what is black already can
never count. The training mean is grey: before the black surroundings of a scan it is an object of its own, so that maps
light up borders and padding. A blurred image keeps the surroundings as they are and takes away what is smaller than the
blur; it is the default. The features of a table are scaled, so that 0 is the mean of training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from mailnet.explain.quality.blur import blur
from mailnet.explain.question import Question
from mailnet.nn.layers import expand_as

Fill: TypeAlias = Literal["blur", "mean", "black"]
Baseline: TypeAlias = Fill | Mapping[str, Tensor]
BLUR = 0.15  # standard deviation of the blur, a share of the shortest side: a lesion of a quarter of it is gone


def baselines(question: Question, baseline: Baseline = "blur") -> dict[str, Tensor]:
    """Return modality -> (B, ...), the baseline of each that is explained; what is absent is its own baseline.

    Args:
        question: What is asked.
        baseline: ``blur``, ``mean`` (of the training images, a colour a channel) or ``black`` for images and volumes;
            tables have their mean with each. Or modality -> (C, ...), (B, C, ...) or (F,); those left out are blurred.

    Raises:
        ValueError: An unknown baseline, a modality that is not explained, or a shape that does not fit.
    """
    given: Mapping[str, Tensor] = {}
    fill = "blur"
    if isinstance(baseline, str):
        if baseline not in get_args(Fill):
            raise ValueError(f"baseline must be {', '.join(get_args(Fill))}, or tensors by modality, got '{baseline}'")
        fill = baseline
    else:
        given = baseline
    if unknown := sorted(set(given) - set(question.names)):
        raise ValueError(f"baseline has the modality '{unknown[0]}'; explained are {', '.join(question.names)}")
    found = {}
    for name in question.names:
        x = question.batch.inputs[name]
        if name in given:
            base = given[name].to(x)
            if base.shape not in (x.shape, x.shape[1:]):
                raise ValueError(f"baseline of modality '{name}' must be {tuple(x.shape[1:])}, got {tuple(base.shape)}")
        else:
            base = _filled(question, name, fill)
        here = question.batch.present[name].to(x.device, torch.bool)
        found[name] = torch.where(expand_as(here[:, None], x), base.expand_as(x), x)
    return found


def _filled(question: Question, name: str, fill: str) -> Tensor:
    x, spec = question.batch.inputs[name], question.specs[name]
    if not spec.spatial_dims:
        return torch.zeros_like(x) if spec.mean is None else x.new_tensor(spec.mean)
    if fill == "blur":
        return blur(x, BLUR * min(x.shape[2:]))
    if fill == "black":
        return torch.zeros_like(x)
    mean = x.new_tensor(spec.mean or (0.5,) * spec.channels)
    return mean.reshape(-1, *(1,) * spec.spatial_dims)
