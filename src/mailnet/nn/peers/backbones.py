"""The encoders by name, so that each way of joining modalities can be had on each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from mailnet.nn.heads import Heads
from mailnet.nn.layers import InputNorm, key, pool_mean, stage_widths
from mailnet.nn.peers.monai_encoders import densenet121, efficientnet_b0, resnet50
from mailnet.nn.peers.resnet import perceptron, resnet18
from mailnet.nn.presence import Presence, absence_tokens, resolve_presence
from mailnet.specs import ModalitySpec, TaskSpec


def _resnet18(spec: ModalitySpec, widths: Sequence[int]) -> tuple[nn.Module, int]:
    return resnet18(spec, widths), widths[-1]


# Each (modality, widths of the stages) -> encoder and the number of its features.
ENCODERS: dict[str, Callable[[ModalitySpec, Sequence[int]], tuple[nn.Module, int]]] = {
    "resnet18": _resnet18,
    "resnet50": resnet50,
    "densenet121": densenet121,
    "efficientnet_b0": efficientnet_b0,
}
SCALED = ("densenet121", "efficientnet_b0")  # whose widths grow with depth by rules of their own


def backbones(
    modalities: Mapping[str, ModalitySpec], encoder: str, width: str, widths: Sequence[int] | None
) -> tuple[nn.ModuleDict, dict[str, int]]:
    """Return an encoder for each modality, and the length of its vectors.

    Args:
        modalities: The modalities by name; a table gets a perceptron of the last width whatever the encoder.
        encoder: One of ``ENCODERS``.
        width: Preset of the widths; ``small`` is as published.
        widths: Widths of the stages in place of a preset.

    Returns:
        ``key(name)`` -> (B, C, ...) in [0, 1] to (B, C_out, ...) or (B, C_out), and name -> C_out.

    Raises:
        ValueError: An unknown encoder or preset, or widths that the encoder cannot have.
    """
    if encoder not in ENCODERS:
        raise ValueError(f"encoder must be one of {', '.join(ENCODERS)}, got {encoder!r}")
    if widths is not None and encoder in SCALED:
        raise ValueError(f"{encoder} has no widths of single stages; set width to a preset")
    channels = stage_widths(width, widths)
    branches, features = nn.ModuleDict(), {}
    for name, spec in modalities.items():
        if spec.kind == "tabular":
            branches[key(name)], features[name] = perceptron(spec, channels[-1]), channels[-1]
        else:
            branches[key(name)], features[name] = ENCODERS[encoder](spec, channels)
    return branches, features


def feature_layers(encoder: nn.Module) -> list[nn.Module]:
    """Return the layers of an encoder of an image or volume, in the order in which they run, after ``InputNorm``.

    Blocks are layers; only plain ``Sequential``s are taken apart.
    """
    if type(encoder) is nn.Sequential:
        return [layer for child in encoder for layer in feature_layers(child)]
    return [] if isinstance(encoder, InputNorm) else [encoder]


def feature_layers_of(branches: nn.ModuleDict, modalities: Mapping[str, ModalitySpec]) -> dict[str, list[nn.Module]]:
    """Return image or volume -> ``feature_layers`` of its branch, as class activation maps want them."""
    return {name: feature_layers(branches[key(name)]) for name, spec in modalities.items() if spec.spatial_dims}


def encode(branches: nn.ModuleDict, inputs: Mapping[str, Tensor], presence: Presence) -> dict[str, Tensor]:
    """Return modality -> (n, C), the features of the n studies that have it, of those that any has."""
    return {name: pool_mean(branches[key(name)](presence.gather(name, inputs[name]))) for name in presence.encoded}


class Encoders(nn.Module):
    """A ResNet-18 for each image or volume, a perceptron for each table: each gives a vector of the last width.

    Args:
        modalities: The modalities by name.
        width: Preset of the widths.
        widths: Widths of the stages in place of a preset.

    Raises:
        ValueError: An unknown preset, or a width that a stage cannot have.
    """

    def __init__(self, modalities: Mapping[str, ModalitySpec], width: str, widths: Sequence[int] | None) -> None:
        super().__init__()
        self.branches, self.features = backbones(modalities, "resnet18", width, widths)
        self.tokens = absence_tokens(self.features)

    def forward(self, inputs: Mapping[str, Tensor], presence: Presence) -> dict[str, Tensor]:
        """Return modality -> (B, C) for every modality, with a learned token where it is absent."""
        return presence.complete(encode(self.branches, inputs, presence), self.tokens)


class VectorFusion(nn.Module):
    """``Encoders``, a module that makes one vector of theirs, linear heads on it.

    Args:
        modalities: The modalities by name.
        tasks: The tasks by name.
        fusion: From modality -> length of its vector, and the length of the fused one, to the module.
        width: Preset of the widths.
        widths: Widths of the stages in place of a preset.

    Raises:
        ValueError: An unknown preset, or a width that a stage cannot have.
    """

    def __init__(
        self,
        modalities: Mapping[str, ModalitySpec],
        tasks: Mapping[str, TaskSpec],
        fusion: Callable[[Mapping[str, int], int], nn.Module],
        width: str,
        widths: Sequence[int] | None,
    ) -> None:
        super().__init__()
        self.modalities = dict(modalities)
        self.tasks = dict(tasks)
        outputs = stage_widths(width, widths)[-1]
        self.encoders = Encoders(modalities, width, widths)
        self.fusion = fusion(self.encoders.features, outputs)
        self.heads = Heads({"fused": outputs}, tasks)

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return task -> logits (B, outputs) from modality -> (B, C, ...) and modality -> (B,) bool."""
        presence = resolve_presence(self.modalities, inputs, present, self.training)
        vectors = self.encoders(inputs, presence)  # (B, C)
        logits: dict[str, Tensor] = self.heads({"fused": self.fusion(vectors)})
        return logits

    def feature_layers(self) -> dict[str, list[nn.Module]]:
        """Return image or volume -> its layers; see ``MAIL.feature_layers``."""
        return feature_layers_of(self.encoders.branches, self.modalities)
