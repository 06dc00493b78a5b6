"""Multimodal bottleneck transformer: a transformer a modality, and a few tokens through which alone they exchange.

Up to the middle each modality's transformer sees its own tokens. From then on each block of modality m also sees the
bottleneck tokens b, and what the modalities made of these is averaged:

    [x_m, b_m] <- block_m([x_m, b]),  b <- mean over m of b_m.

At the end one linear layer a task, the same for all modalities, reads each modality's class token, and the logits are
averaged.

Adapted: any number of modalities (the authors have video and sound); fewer and narrower blocks than their ViT-Base,
with about the parameters of a ResNet-18 of the same preset, since nothing is pretrained; a table is a class token and
one token that a perceptron makes of all its columns. A modality that is absent in a study has no share in the
bottleneck nor in the averaged logits, so that no token need stand for it. The order of the modalities makes no
difference.

Source: Nagrani, Yang, Arnab, Jansen, Schmid, Sun, "Attention Bottlenecks for Multimodal Fusion", NeurIPS 2021, arXiv
2107.00135.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mailnet.nn.heads import Heads
from mailnet.nn.layers import key, stage_widths
from mailnet.nn.peers.joint import mean_present
from mailnet.nn.peers.resnet import perceptron
from mailnet.nn.peers.vit import INIT_STD, PatchEmbedding, Transformer
from mailnet.nn.presence import Presence, resolve_presence
from mailnet.nn.registry import register_model
from mailnet.specs import ModalitySpec, TaskSpec

# preset -> length of a token, number of blocks
SIZES: dict[str, tuple[int, int]] = {"nano": (64, 4), "tiny": (192, 6), "small": (384, 6), "base": (576, 6)}
DEPTH = 6


class TableEmbedding(nn.Module):
    """A table as two tokens: a class token, and all its columns by a perceptron."""

    def __init__(self, spec: ModalitySpec, width: int) -> None:
        super().__init__()
        self.columns = perceptron(spec, width)
        self.cls = nn.Parameter(torch.randn(1, width) * INIT_STD)

    def forward(self, x: Tensor) -> Tensor:
        """(B, F) -> (B, 2, width)."""
        return torch.stack([self.cls.expand(x.shape[0], -1), self.columns(x)], 1)


@register_model("mbt")
class MBT(nn.Module):
    """A small vision transformer for each image or volume, bottleneck tokens between them, shared linear heads.

    Args:
        modalities: The modalities by name, any number of them. The size of an image sets its patches.
        tasks: The tasks by name.
        width: Preset of the transformers: ``nano``, ``tiny``, ``small`` or ``base``.
        widths: In place of a preset; a transformer has one width, and the last of these is the length of its tokens.
        depth: Blocks of a transformer; None for the preset's.
        bottlenecks: Bottleneck tokens; 4 as published.
        fusion_start: Blocks before the first that sees them; None for half the depth.
        patch: Pixels of a patch along every axis; None for about an eighth of the image.

    Raises:
        ValueError: An unknown preset, or a number out of its range.
    """

    def __init__(
        self,
        modalities: Mapping[str, ModalitySpec],
        tasks: Mapping[str, TaskSpec],
        *,
        width: str = "tiny",
        widths: Sequence[int] | None = None,
        depth: int | None = None,
        bottlenecks: int = 4,
        fusion_start: int | None = None,
        patch: int | None = None,
    ) -> None:
        super().__init__()
        channels = stage_widths(width, widths)[-1]
        blocks = DEPTH
        if widths is None:
            channels, blocks = SIZES[width]
        blocks = blocks if depth is None else depth
        start = blocks // 2 if fusion_start is None else fusion_start
        if bottlenecks < 1:
            raise ValueError(f"bottlenecks must be at least 1, got {bottlenecks}")
        if not 0 <= start < max(blocks, 1):
            raise ValueError(f"fusion_start must be at least 0 and below the depth, {blocks}, got {start}")
        self.modalities = dict(modalities)
        self.tasks = dict(tasks)
        self.depth, self.fusion_start = blocks, start
        self.transformers = nn.ModuleDict(
            {
                key(name): Transformer(
                    TableEmbedding(spec, channels)
                    if spec.kind == "tabular"
                    else PatchEmbedding(spec, channels, None if patch is None else (patch,) * spec.spatial_dims),
                    channels,
                    blocks,
                )
                for name, spec in modalities.items()
            }
        )
        self.bottleneck = nn.Parameter(torch.randn(1, bottlenecks, channels) * INIT_STD)
        self.heads = Heads({"fused": channels}, tasks)

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return task -> logits (B, outputs) from modality -> (B, C, ...) and modality -> (B,) bool."""
        presence = resolve_presence(self.modalities, inputs, present, self.training)
        networks: dict[str, Any] = {name: self.transformers[key(name)] for name in presence.encoded}
        x = {name: network.embedding(presence.gather(name, inputs[name])) for name, network in networks.items()}
        bottleneck = self.bottleneck.expand(presence.batch_size, -1, -1)  # (B, bottlenecks, width)
        for depth in range(self.depth):
            blocks = {name: network.blocks[depth] for name, network in networks.items()}
            if depth < self.fusion_start:
                x = {name: block(x[name]) for name, block in blocks.items()}  # (n, T, width)
            else:
                x, bottleneck = exchange(blocks, x, bottleneck, presence)
        answers = {name: network.answer(x[name]) for name, network in networks.items()}  # (n, width)
        # the heads are linear: the logits of the mean are the mean of the logits
        logits: dict[str, Tensor] = self.heads({"fused": mean_present(answers, presence)})
        return logits


def exchange(
    blocks: Mapping[str, nn.Module], x: Mapping[str, Tensor], bottleneck: Tensor, presence: Presence
) -> tuple[dict[str, Tensor], Tensor]:
    """Return what one block a modality makes of its tokens, and of the bottleneck tokens in the mean.

    Args:
        blocks: Modality -> its block.
        x: Modality -> (n, T, width), the tokens of the studies that have it.
        bottleneck: (B, bottlenecks, width).
        presence: Who has what.
    """
    count = bottleneck.shape[1]
    both = {
        name: block(torch.cat([x[name], presence.gather(name, bottleneck)], 1))  # (n, T + bottlenecks, width)
        for name, block in blocks.items()
    }
    bottleneck = mean_present({name: tokens[:, -count:] for name, tokens in both.items()}, presence)
    return {name: tokens[:, :-count] for name, tokens in both.items()}, bottleneck
