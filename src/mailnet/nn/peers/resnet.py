"""Two-branch ResNet-18: one ResNet-18 a modality, their vectors concatenated, a head for each task.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from mailnet.nn.heads import Heads
from mailnet.nn.layers import (
    InputNorm,
    Projection,
    Stem,
    conv,
    halved,
    key,
    norm,
    plan_trunk,
    pool_mean,
    stage_widths,
    stem_kernel,
)
from mailnet.nn.presence import absence_tokens, resolve_presence
from mailnet.nn.registry import register_model
from mailnet.specs import ModalitySpec, TaskSpec

BLOCKS = 2


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, dims: int, channels: int, out_channels: int, stride: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = conv(dims, channels, out_channels, 3, stride=stride)
        self.norm1 = norm(dims, out_channels)
        self.conv2 = conv(dims, out_channels, out_channels, 3)
        self.norm2 = norm(dims, out_channels)
        same = channels == out_channels and set(stride) == {1}
        self.shortcut = nn.Identity() if same else Projection(dims, channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C_out, ...)."""
        y: Tensor = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu())) + self.shortcut(x)
        return y.relu()


def resnet18(spec: ModalitySpec, widths: Sequence[int]) -> nn.Sequential:
    """Return a ResNet-18 without its head, (B, C, ...) in [0, 1] -> (B, C_out, ...), its stem fitted to the size."""
    dims = spec.spatial_dims
    stem, plans = plan_trunk(spec, len(widths))
    first = conv(dims, spec.channels, widths[0], stem_kernel(stem), stride=halved(stem))
    layers: list[nn.Module] = [InputNorm(spec), Stem(first, widths[0], stem)]
    channels = widths[0]
    for width, plan in zip(widths, plans, strict=True):
        for step in (plan.stride, *((1,) * dims,) * (BLOCKS - 1)):
            layers.append(BasicBlock(dims, channels, width, step))
            channels = width
    return nn.Sequential(*layers)


def perceptron(spec: ModalitySpec, width: int) -> nn.Sequential:
    """Return the embedding of a table, (B, F) -> (B, width)."""
    return nn.Sequential(
        InputNorm(spec), nn.Linear(spec.channels, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
    )


@register_model("two_branch_resnet18")
class TwoBranchResNet18(nn.Module):
    """One ResNet-18 for each image or volume, a small perceptron for each table, concatenation, linear heads.

    An absent modality is not encoded; a learned token stands for its features.

    Args:
        modalities: The modalities by name, any number of them.
        tasks: The tasks by name.
        width: Preset of the four widths: ``nano``, ``tiny`` (half the published), ``small`` (as published), ``base``.
        widths: Widths of the stages in place of a preset.

    Raises:
        ValueError: An unknown preset.
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
        self.modalities = dict(modalities)
        self.tasks = dict(tasks)
        widths = stage_widths(width, widths)
        self.branches = nn.ModuleDict(
            {
                key(name): perceptron(spec, widths[-1]) if spec.kind == "tabular" else resnet18(spec, widths)
                for name, spec in modalities.items()
            }
        )
        self.tokens = absence_tokens(modalities, widths[-1])
        self.heads = Heads(dict.fromkeys(modalities, widths[-1]), tasks)

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return task -> logits (B, outputs) from modality -> (B, C, ...) and modality -> (B,) bool."""
        presence = resolve_presence(self.modalities, inputs, present, self.training)
        vectors = {
            name: pool_mean(self.branches[key(name)](presence.gather(name, inputs[name]))) for name in presence.encoded
        }
        logits: dict[str, Tensor] = self.heads(presence.complete(vectors, self.tokens))
        return logits
