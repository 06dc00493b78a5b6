"""Multimodal transfer modules: squeeze and excitation across ResNet-18s that keep a stream each.

With S_m the mean over space of modality m's features A_m, a module computes

    Z = ReLU(W [S_1, ..., S_M] + b),  E_m = W_m Z + b_m,  A_m <- 2 sigmoid(E_m) * A_m,

Z as long as the concatenation divided by a ratio of 4. The streams are fused late: their predictions are added.

Adapted: any number of modalities (the authors show two); a module after each of the last three of four stages, our
choice, since the authors place modules among the later layers of networks other than ResNet-18; the ReLU is in their
program (which for a ratio of 4 has a Z of half the concatenation, not a quarter); a table's vector takes part in every
module and is gated by it. A modality that is absent in a study has no share in Z, and a learned token stands for its
features at the heads. The order of the modalities makes no difference.

Source: Joze, Shaban, Iuzzolino, Koishida, "MMTM: Multimodal Transfer Module for CNN Fusion", CVPR 2020, arXiv
1911.08670.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from mailnet.nn.heads import Heads
from mailnet.nn.layers import expand_as, key, pool_mean, stage_widths
from mailnet.nn.peers.joint import Joint
from mailnet.nn.peers.resnet import BLOCKS, perceptron, resnet18
from mailnet.nn.presence import Presence, absence_tokens, resolve_presence
from mailnet.nn.registry import register_model
from mailnet.specs import ModalitySpec, TaskSpec

STEM = 2  # layers of a ResNet-18 before its first block


def stream(spec: ModalitySpec, widths: Sequence[int]) -> nn.ModuleList:
    """Return the stages of a modality's stream; all of a table's perceptron comes in the first."""
    if spec.kind == "tabular":
        return nn.ModuleList([perceptron(spec, widths[-1]), *(nn.Identity() for _ in widths[1:])])
    layers = list(resnet18(spec, widths))
    ends = [STEM + BLOCKS * stage for stage in range(1, len(widths) + 1)]
    return nn.ModuleList(nn.Sequential(*layers[start:end]) for start, end in zip((0, *ends[:-1]), ends, strict=True))


class MMTM(nn.Module):
    """One module.

    Args:
        features: Modality -> its channels here.
        ratio: Channels of the concatenation for each element of Z.
    """

    def __init__(self, features: Mapping[str, int], ratio: int) -> None:
        super().__init__()
        joint = max(sum(features.values()) // ratio, 1)
        self.squeeze = Joint(features, joint)
        self.excite = nn.ModuleDict({key(name): nn.Linear(joint, size) for name, size in features.items()})

    def forward(self, features: Mapping[str, Tensor], presence: Presence) -> dict[str, Tensor]:
        """Return the gated features, modality -> (n, C, ...) of the studies that have it."""
        joint = self.squeeze({name: pool_mean(x) for name, x in features.items()}, presence).relu()  # (B, Z)
        gated = {}
        for name, x in features.items():
            gate = 2 * self.excite[key(name)](presence.gather(name, joint)).sigmoid()  # (n, C)
            gated[name] = x * expand_as(gate, x)
        return gated


@register_model("mmtm")
class MMTMNet(nn.Module):
    """ResNet-18 for images and volumes, a perceptron for each table, transfer modules between them, linear heads.

    Args:
        modalities: The modalities by name, any number of them.
        tasks: The tasks by name.
        width: Preset of the four widths of a ResNet-18: ``nano``, ``tiny``, ``small`` (as published) or ``base``.
        widths: Widths of the stages in place of a preset.
        modules: Stages, counted from the last, that a module follows; all where there are fewer.
        ratio: Channels of the concatenation for each element of the joint vector.

    Raises:
        ValueError: An unknown preset, or ``modules`` or ``ratio`` below 1.
    """

    def __init__(
        self,
        modalities: Mapping[str, ModalitySpec],
        tasks: Mapping[str, TaskSpec],
        *,
        width: str = "tiny",
        widths: Sequence[int] | None = None,
        modules: int = 3,
        ratio: int = 4,
    ) -> None:
        super().__init__()
        for name, number in (("modules", modules), ("ratio", ratio)):
            if number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        self.modalities = dict(modalities)
        self.tasks = dict(tasks)
        channels = stage_widths(width, widths)
        self.streams = nn.ModuleDict({key(name): stream(spec, channels) for name, spec in modalities.items()})
        self.fusions = nn.ModuleList(
            MMTM({name: channels[-1] if spec.kind == "tabular" else stage for name, spec in modalities.items()}, ratio)
            for stage in channels[-modules:]
        )
        self.plain = len(channels) - len(self.fusions)  # stages that no module follows
        self.tokens = absence_tokens(dict.fromkeys(modalities, channels[-1]))
        self.heads = Heads(dict.fromkeys(modalities, channels[-1]), tasks)

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return task -> logits (B, outputs) from modality -> (B, C, ...) and modality -> (B,) bool."""
        presence = resolve_presence(self.modalities, inputs, present, self.training)
        streams: dict[str, Any] = {name: self.streams[key(name)] for name in presence.encoded}
        x = {name: presence.gather(name, inputs[name]) for name in presence.encoded}
        for stage in range(self.plain + len(self.fusions)):
            x = {name: stages[stage](x[name]) for name, stages in streams.items()}  # (n, C_stage, ...)
            if stage >= self.plain:
                x = self.fusions[stage - self.plain](x, presence)
        vectors = {name: pool_mean(features) for name, features in x.items()}  # (n, C)
        logits: dict[str, Tensor] = self.heads(presence.complete(vectors, self.tokens))
        return logits

    def feature_layers(self) -> dict[str, list[nn.Module]]:
        """Return image or volume -> its stages, and the modules between modalities; see ``MAIL.feature_layers``."""
        images = [name for name, spec in self.modalities.items() if spec.spatial_dims]
        return {name: [*cast(nn.ModuleList, self.streams[key(name)]), *self.fusions] for name in images}
