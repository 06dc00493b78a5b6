"""DRIFA-Net: ResNet-18s with a channel attention in every block and one between the modalities after every block.

Multi-branch fusion attention (MFA) gates the channels of one modality by two readings of its features: a hierarchical
one (HIFA) pools the outputs of four 1x1 convolutions in a row, a local one (CLIA) pools those of two. Multimodal
information fusion attention (MIFA) gives all modalities one gate, read from the least, the mean and the greatest value
over space, summed over the modalities: globally (MGIFA) those of the features, locally (MLIFA) those of a 1x1
convolution of them.

The structure is that of the authors' program, read layer by layer: sigmoids after every attention layer and after their
sum, gates times a trained scale a channel, convolutions with biases, attention before the batch norm, MFA after every
block but the last, MIFA after every one.

Adapted: any number of modalities, summed where the program adds its two; volumes; a table, embedded by a perceptron,
has the channels of the last stage only and takes part in its MIFA modules; a modality that is absent in a study has no
share in MIFA, and a learned token stands for its features at the heads. The authors keep dropout on in prediction, to
average draws (an ensemble by Monte Carlo dropout): ours is off there. Their stem always quarters an image; ours is
fitted to its size. The order of the modalities makes no difference.

Source: Dhar, Zaidi, Haghighat, Goyal, Roy, Alavi, Kumar, "Multimodal Fusion Learning with Dual Attention for Medical
Imaging", WACV 2025, arXiv 2412.01248, and the authors' program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from mailnet.nn.heads import Heads
from mailnet.nn.layers import (
    InputNorm,
    Stem,
    conv,
    expand_as,
    halved,
    key,
    norm,
    plan_trunk,
    pool_max,
    pool_mean,
    stage_widths,
    stem_kernel,
)
from mailnet.nn.peers.joint import sum_present, total_of
from mailnet.nn.peers.resnet import BLOCKS, perceptron
from mailnet.nn.presence import Presence, absence_tokens, resolve_presence
from mailnet.nn.registry import register_model
from mailnet.specs import ModalitySpec, TaskSpec


def pool_min(x: Tensor) -> Tensor:
    """Return the minimum over space of (B, C, ...) as (B, C); a vector stays as it is."""
    return -pool_max(-x)


class Scales(nn.Module):
    """The gate of a global and a local reading: the sigmoid of their sum, each with a trained scale."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.global_scale = nn.Parameter(torch.ones(1))
        self.local_scale = nn.Parameter(torch.ones(channels))

    def forward(self, from_global: Tensor, from_local: Tensor) -> Tensor:
        """(B, C), (B, C) -> (B, C)."""
        return (from_global * self.global_scale + from_local * self.local_scale).sigmoid()


class MFA(nn.Module):
    """Multi-branch fusion attention: a gate a channel of one modality's features, read from them.

    Args:
        dims: Spatial axes.
        channels: Channels.
    """

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        self.hierarchical = nn.ModuleList(conv(dims, channels, channels, 1, bias=True) for _ in range(4))
        self.merge = nn.Linear(2 * channels, channels)
        self.local = conv(dims, channels, channels, 1, bias=True)
        self.refine = nn.Linear(channels, channels)
        self.scales = Scales(channels)
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C, ...)."""
        return x * expand_as(self.scales(self._hierarchical(x), self._local(x)) * self.alpha, x)

    def _hierarchical(self, x: Tensor) -> Tensor:
        pooled = []
        for first, second in (self.hierarchical[:2], self.hierarchical[2:]):
            y1 = first(x).sigmoid()
            y2 = second(y1).sigmoid()
            pooled.append(pool_mean(y1) + pool_max(y2))
            x = y1 + y2
        merged: Tensor = self.merge(torch.cat(pooled, 1)).sigmoid()
        return merged

    def _local(self, x: Tensor) -> Tensor:
        mean = pool_mean(self.local(x).sigmoid())
        refined: Tensor = self.refine(mean).sigmoid()
        return mean + refined


class MIFA(nn.Module):
    """Multimodal information fusion attention: one gate a channel for all modalities, read from all of them.

    Args:
        modalities: Those that take part, by name.
        channels: Channels of each.
    """

    def __init__(self, modalities: Mapping[str, ModalitySpec], channels: int) -> None:
        super().__init__()
        self.names = tuple(modalities)
        self.read = nn.Linear(channels, channels)
        self.local = nn.ModuleDict(
            {
                key(name): conv(spec.spatial_dims, channels, channels, 1, bias=True)
                if spec.spatial_dims
                else nn.Linear(channels, channels)
                for name, spec in modalities.items()
            }
        )
        self.scales = Scales(channels)
        self.alphas = nn.ParameterDict({key(name): torch.ones(channels) for name in modalities})

    def forward(self, features: Mapping[str, Tensor], presence: Presence) -> dict[str, Tensor]:
        """Return the gated features, modality -> (n, C, ...) of the studies that have it; others pass unchanged."""
        taking = {name: x for name, x in features.items() if name in self.names}
        if not taking:
            return dict(features)
        local = {name: self.local[key(name)](x).sigmoid() for name, x in taking.items()}
        pools = (pool_min, pool_mean, pool_max)
        from_global = total_of(
            self.read(sum_present({name: pool(x) for name, x in taking.items()}, presence)).sigmoid() for pool in pools
        )  # (B, C)
        from_local = sum_present({name: total_of(pool(x) for pool in pools) for name, x in local.items()}, presence)
        gate = self.scales(from_global, from_local)  # (B, C)
        gated = {
            name: x * expand_as(presence.gather(name, gate) * self.alphas[key(name)], x) for name, x in taking.items()
        }
        return {**features, **gated}


class RRA(nn.Module):
    """Robust residual attention: a basic block of a ResNet with an MFA after each convolution."""

    def __init__(self, dims: int, channels: int, out_channels: int, stride: Sequence[int], projects: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(dims, channels, out_channels, 3, stride=stride, bias=True),
            MFA(dims, out_channels),
            norm(dims, out_channels),
            nn.ReLU(),
            conv(dims, out_channels, out_channels, 3, bias=True),
            MFA(dims, out_channels),
            norm(dims, out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if projects:
            shorter = conv(dims, channels, out_channels, 1, stride=stride, bias=True)
            self.shortcut = nn.Sequential(shorter, norm(dims, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C_out, ...)."""
        y: Tensor = self.body(x) + self.shortcut(x)
        return y.relu()


def steps(spec: ModalitySpec, widths: Sequence[int], dropout: float) -> nn.ModuleList:
    """Return what a modality does before each MIFA: a block with its MFA and dropout, the first also the stem.

    A table's perceptron comes before the first MIFA of the last stage.
    """
    dims, count = spec.spatial_dims, BLOCKS * len(widths)
    if spec.kind == "tabular":
        idle: list[nn.Module] = [nn.Identity() for _ in range(count)]
        idle[-BLOCKS] = perceptron(spec, widths[-1])
        return nn.ModuleList(idle)
    stem, plans = plan_trunk(spec, len(widths))
    first = conv(dims, spec.channels, widths[0], stem_kernel(stem), stride=halved(stem), bias=True)
    entry = [InputNorm(spec), Stem(nn.Sequential(first, MFA(dims, widths[0])), widths[0], stem)]
    blocks: list[nn.Module] = []
    channels = widths[0]
    for stage, (width, plan) in enumerate(zip(widths, plans, strict=True)):
        for step in (plan.stride, *((1,) * dims,) * (BLOCKS - 1)):
            projects = channels != width or set(step) != {1}
            parts: list[nn.Module] = [RRA(dims, channels, width, step, projects)]
            if stage < len(widths) - 1:
                parts.append(nn.Dropout(dropout))
            if len(blocks) < count - 1:
                parts.append(MFA(dims, width))
            blocks.append(nn.Sequential(*parts))
            channels = width
    return nn.ModuleList([nn.Sequential(*entry, blocks[0]), *blocks[1:]])


@register_model("drifa_net")
class DRIFANet(nn.Module):
    """DRIFA-Net for images and volumes, with a perceptron for each table, and linear heads.

    Args:
        modalities: The modalities by name, any number of them.
        tasks: The tasks by name.
        width: Preset of the four widths: ``nano``, ``tiny`` (half the published), ``small`` (as published), ``base``.
        widths: Widths of the stages in place of a preset.
        dropout: Chance that a feature is dropped in training, after each block but those of the last stage and before
            the heads; 0.25 as published.

    Raises:
        ValueError: An unknown preset, or a dropout outside [0, 1).
    """

    def __init__(
        self,
        modalities: Mapping[str, ModalitySpec],
        tasks: Mapping[str, TaskSpec],
        *,
        width: str = "tiny",
        widths: Sequence[int] | None = None,
        dropout: float = 0.25,
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")
        self.modalities = dict(modalities)
        self.tasks = dict(tasks)
        channels = stage_widths(width, widths)
        self.steps = nn.ModuleDict({key(name): steps(spec, channels, dropout) for name, spec in modalities.items()})
        images = {name: spec for name, spec in modalities.items() if spec.spatial_dims}
        last = len(channels) - 1
        self.fusions = nn.ModuleList(
            MIFA(modalities if stage == last else images, width)
            for stage, width in enumerate(channels)
            for _ in range(BLOCKS)
            if stage == last or images
        )
        self.unfused = BLOCKS * len(channels) - len(self.fusions)  # steps that no module follows: tables alone
        self.dropout = nn.Dropout(dropout)
        self.tokens = absence_tokens(dict.fromkeys(modalities, channels[-1]))
        self.heads = Heads(dict.fromkeys(modalities, channels[-1]), tasks)

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return task -> logits (B, outputs) from modality -> (B, C, ...) and modality -> (B,) bool."""
        presence = resolve_presence(self.modalities, inputs, present, self.training)
        steps: dict[str, Any] = {name: self.steps[key(name)] for name in presence.encoded}
        x = {name: presence.gather(name, inputs[name]) for name in presence.encoded}
        for step in range(self.unfused + len(self.fusions)):
            x = {name: blocks[step](x[name]) for name, blocks in steps.items()}  # (n, C, ...)
            if step >= self.unfused:
                x = self.fusions[step - self.unfused](x, presence)
        vectors = {name: pool_mean(self.dropout(features)) for name, features in x.items()}  # (n, C)
        logits: dict[str, Tensor] = self.heads(presence.complete(vectors, self.tokens))
        return logits

    def feature_layers(self) -> dict[str, list[nn.Module]]:
        """Return image or volume -> its blocks, and the modules between modalities; see ``MAIL.feature_layers``."""
        images = [name for name, spec in self.modalities.items() if spec.spatial_dims]
        return {name: [*cast(nn.ModuleList, self.steps[key(name)]), *self.fusions] for name in images}
