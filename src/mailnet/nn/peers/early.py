"""Early fusion: the modalities are stacked as channels of one image, which one ResNet-18 reads.

Source: Snoek, Worring, Smeulders, "Early versus late fusion in semantic video analysis", ACM Multimedia 2005, for the
scheme; He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, for the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mailnet.nn.heads import Heads
from mailnet.nn.layers import InputNorm, key, pool_mean, resize, stage_widths
from mailnet.nn.peers.backbones import feature_layers
from mailnet.nn.peers.resnet import perceptron, resnet18_trunk
from mailnet.nn.presence import Presence, resolve_presence
from mailnet.nn.registry import register_model
from mailnet.specs import ModalitySpec, TaskSpec

TABLE_PLANES = 8
UNKNOWN_SIZE = 64  # pixels, as in plan_trunk


@register_model("early_fusion")
class EarlyFusion(nn.Module):
    """One ResNet-18 on all images at once.

    Each image is normalised and enlarged to the longest side of any, axis by axis. A table becomes eight planes of one
    value each, a linear layer of its columns, learned with the rest. With several modalities there is one more plane
    for each, 1 where the study has it and 0 where not; an absent modality's own planes are 0, which for an image is its
    mean. Tables alone are concatenated for a perceptron. Channels lie in the order of the modalities' names, so that
    the order in which they are given does not matter.

    Images need not show the same place, as this fusion assumes; where they do not, it is a weak peer.

    Args:
        modalities: The modalities by name; images or volumes, not both.
        tasks: The tasks by name.
        width: Preset of the four widths: ``nano``, ``tiny`` (half the published), ``small`` (as published), ``base``.
        widths: Widths of the stages in place of a preset.

    Raises:
        ValueError: An unknown preset, or images together with volumes.
    """

    def __init__(
        self,
        modalities: Mapping[str, ModalitySpec],
        tasks: Mapping[str, TaskSpec],
        *,
        width: str = "tiny",
        widths: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        kinds = {spec.kind: name for name, spec in modalities.items()}
        if {"image", "volume"} <= set(kinds):
            raise ValueError(
                f"early_fusion cannot stack an image ('{kinds['image']}') and a volume ('{kinds['volume']}'); take "
                "late_fusion or a two_branch network, or leave one of them out"
            )
        widths = stage_widths(width, widths)
        self.modalities = dict(modalities)
        self.tasks = dict(tasks)
        self.images = [name for name, spec in modalities.items() if spec.kind != "tabular"]
        self.planes = {
            name: TABLE_PLANES if spec.kind == "tabular" and self.images else spec.channels
            for name, spec in modalities.items()
        }
        self.sources = nn.ModuleDict(
            {
                key(name): nn.Sequential(InputNorm(spec), nn.Linear(spec.channels, TABLE_PLANES))
                if spec.kind == "tabular" and self.images
                else InputNorm(spec)
                for name, spec in modalities.items()
            }
        )
        channels = sum(self.planes.values()) + (len(modalities) if len(modalities) > 1 else 0)
        if self.images:
            sizes = [size for name in self.images if (size := modalities[name].size)]
            stack = ModalitySpec("stack", modalities[self.images[0]].kind, channels, _largest(sizes))
            self.trunk = nn.Sequential(*resnet18_trunk(stack, widths))
        else:
            self.trunk = perceptron(ModalitySpec("stack", "tabular", channels), widths[-1])
        self.heads = Heads({"stack": widths[-1]}, tasks)

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return task -> logits (B, outputs) from modality -> (B, C, ...) and modality -> (B,) bool."""
        presence = resolve_presence(self.modalities, inputs, present, self.training)
        logits: dict[str, Tensor] = self.heads({"stack": pool_mean(self.trunk(self._stack(inputs, presence)))})
        return logits

    def feature_layers(self) -> dict[str, list[nn.Module]]:
        """Return image or volume -> the layers of the trunk, which all of them share; see ``MAIL.feature_layers``."""
        return {name: feature_layers(self.trunk) for name in self.images}

    def _stack(self, inputs: dict[str, Tensor], presence: Presence) -> Tensor:
        """Return (B, C, ...) of all modalities and, where there are several, of who has which."""
        grid = self._grid(inputs)
        example = next(iter(inputs.values()))
        parts = []
        for name in sorted(self.modalities):
            if name in presence.encoded:
                x = self.sources[key(name)](presence.gather(name, inputs[name]))  # (n, C, ...), or (n, C) of a table
                x = presence.scatter(name, resize(x, grid) if name in self.images else x)
            else:
                x = example.new_zeros(presence.batch_size, self.planes[name])
            parts.append(x if name in self.images and name in presence.encoded else _spread(x, grid))
        if len(parts) > 1:
            who = torch.stack([presence.masks[name] for name in sorted(self.modalities)], 1)  # (B, M)
            parts.append(_spread(who.to(example.dtype), grid))
        return torch.cat(parts, 1)

    def _grid(self, inputs: dict[str, Tensor]) -> tuple[int, ...]:
        """Return the size of the stack: the longest side of any image, of those given where the spec has no size."""
        if not self.images:
            return ()
        sizes = [
            size
            for name in self.images
            if (size := self.modalities[name].size or (tuple(inputs[name].shape[2:]) if name in inputs else None))
        ]
        return _largest(sizes) or (UNKNOWN_SIZE,) * self.modalities[self.images[0]].spatial_dims


def _largest(sizes: Sequence[tuple[int, ...]]) -> tuple[int, ...] | None:
    return tuple(max(sides) for sides in zip(*sizes, strict=True)) or None


def _spread(x: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Return (B, C) as planes of one value each, (B, C, *grid)."""
    return x.reshape(*x.shape, *(1,) * len(grid)).expand(*x.shape, *grid)
