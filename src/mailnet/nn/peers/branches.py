"""Networks of one encoder a modality: their vectors concatenated, their logits averaged, or one of them alone.

Each stands on any of the encoders of ``backbones``: ResNet-18, or MONAI's ResNet-50, DenseNet-121 and EfficientNet-B0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mailnet.nn.heads import Heads
from mailnet.nn.layers import key, pool_mean
from mailnet.nn.peers.backbones import backbones, encode, feature_layers, feature_layers_of
from mailnet.nn.peers.joint import mean_present
from mailnet.nn.presence import TOKEN_STD, Presence, absence_tokens, resolve_presence
from mailnet.nn.registry import register_model
from mailnet.specs import ModalitySpec, TaskSpec


class TwoBranch(nn.Module):
    """One encoder for each image or volume, a small perceptron for each table, concatenation, linear heads.

    An absent modality is not encoded; a learned token stands for its features. "Two" is the field's name: there may be
    any number of modalities.

    Args:
        modalities: The modalities by name, any number of them.
        tasks: The tasks by name.
        encoder: ``resnet18``, ``resnet50``, ``densenet121`` or ``efficientnet_b0``.
        width: Preset of the widths: ``nano``, ``tiny`` (half the published), ``small`` (as published), ``base``.
        widths: Widths of the stages in place of a preset, where the encoder has such.

    Raises:
        ValueError: An unknown encoder or preset, or widths that the encoder cannot have.
        MailnetError: The encoder is MONAI's, and MONAI is not installed.
    """

    def __init__(
        self,
        modalities: Mapping[str, ModalitySpec],
        tasks: Mapping[str, TaskSpec],
        *,
        encoder: str,
        width: str,
        widths: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.modalities = dict(modalities)
        self.tasks = dict(tasks)
        self.branches, features = backbones(modalities, encoder, width, widths)
        self.tokens = absence_tokens(features)
        self.heads = Heads(features, tasks)

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return task -> logits (B, outputs) from modality -> (B, C, ...) and modality -> (B,) bool."""
        presence = resolve_presence(self.modalities, inputs, present, self.training)
        vectors = encode(self.branches, inputs, presence)
        logits: dict[str, Tensor] = self.heads(presence.complete(vectors, self.tokens))
        return logits

    def encode(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return modality -> (n, C), the features of the n studies that have it; see ``MAIL.encode``."""
        return encode(self.branches, inputs, resolve_presence(self.modalities, inputs, present, self.training))

    def feature_layers(self) -> dict[str, list[nn.Module]]:
        """Return image or volume -> its layers; see ``MAIL.feature_layers``."""
        return feature_layers_of(self.branches, self.modalities)


@register_model("two_branch_resnet18")
def two_branch_resnet18(
    modalities: Mapping[str, ModalitySpec],
    tasks: Mapping[str, TaskSpec],
    *,
    width: str = "tiny",
    widths: Sequence[int] | None = None,
) -> TwoBranch:
    """``TwoBranch`` on ResNet-18.

    Adapted: the stem keeps an image of up to 32 pixels whole and halves it up to 48; so do those of the others.

    Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016.
    """
    return TwoBranch(modalities, tasks, encoder="resnet18", width=width, widths=widths)


@register_model("two_branch_resnet50")
def two_branch_resnet50(
    modalities: Mapping[str, ModalitySpec],
    tasks: Mapping[str, TaskSpec],
    *,
    width: str = "small",
    widths: Sequence[int] | None = None,
) -> TwoBranch:
    """``TwoBranch`` on MONAI's ResNet-50; the widths are those of its bottlenecks, its vectors four times as long.

    Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016.
    """
    return TwoBranch(modalities, tasks, encoder="resnet50", width=width, widths=widths)


@register_model("two_branch_densenet121")
def two_branch_densenet121(
    modalities: Mapping[str, ModalitySpec], tasks: Mapping[str, TaskSpec], *, width: str = "small"
) -> TwoBranch:
    """``TwoBranch`` on MONAI's DenseNet-121; the width sets the growth rate: 4, 16, 32 (as published) or 48.

    Source: Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks", CVPR 2017.
    """
    return TwoBranch(modalities, tasks, encoder="densenet121", width=width)


@register_model("two_branch_efficientnet_b0")
def two_branch_efficientnet_b0(
    modalities: Mapping[str, ModalitySpec], tasks: Mapping[str, TaskSpec], *, width: str = "small"
) -> TwoBranch:
    """``TwoBranch`` on MONAI's EfficientNet-B0; the width sets its width coefficient: 1/8, 1/2, 1 (published) or 3/2.

    Adapted: even padding and quicker running statistics, see ``monai_encoders``.

    Source: Tan, Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019.
    """
    return TwoBranch(modalities, tasks, encoder="efficientnet_b0", width=width)


@register_model("single_modality")
class SingleModality(nn.Module):
    """An encoder that looks at one modality and ignores the others: what fusion has to beat.

    A learned token stands for the features of a study without that modality, so it is given the classes' frequencies.

    Source: that of the encoder.

    Args:
        modalities: The modalities by name.
        tasks: The tasks by name.
        modality: Name of the one that is looked at; may be left out where there is one only.
        encoder: ``resnet18``, ``resnet50``, ``densenet121`` or ``efficientnet_b0``; a table has a perceptron.
        width: Preset of the widths, as in ``TwoBranch``.
        widths: Widths of the stages in place of a preset, where the encoder has such.

    Raises:
        ValueError: An unknown or missing modality, or a choice that ``TwoBranch`` would refuse.
        MailnetError: The encoder is MONAI's, and MONAI is not installed.
    """

    def __init__(
        self,
        modalities: Mapping[str, ModalitySpec],
        tasks: Mapping[str, TaskSpec],
        *,
        modality: str | None = None,
        encoder: str = "resnet18",
        width: str = "tiny",
        widths: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        chosen = next(iter(modalities)) if modality is None and len(modalities) == 1 else modality
        if chosen not in modalities or chosen is None:
            raise ValueError(f"single_modality: set modality to one of {', '.join(modalities)}, got {modality!r}")
        self.modalities = dict(modalities)
        self.tasks = dict(tasks)
        self.modality = chosen
        branches, features = backbones({chosen: modalities[chosen]}, encoder, width, widths)
        self.branch = branches[key(chosen)]
        self.token = nn.Parameter(torch.randn(features[chosen]) * TOKEN_STD) if len(modalities) > 1 else None
        self.heads = Heads(features, tasks)

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return task -> logits (B, outputs) from modality -> (B, C, ...) and modality -> (B,) bool."""
        presence = resolve_presence(self.modalities, inputs, present, self.training)
        logits: dict[str, Tensor] = self.heads({self.modality: self._vector(inputs, presence)})
        return logits

    def encode(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return the features (n, C) of the n studies that have the modality by its name; see ``MAIL.encode``."""
        return self._encode(inputs, resolve_presence(self.modalities, inputs, present, self.training))

    def feature_layers(self) -> dict[str, list[nn.Module]]:
        """Return the layers of the modality by its name, where it is an image; see ``MAIL.feature_layers``."""
        dims = self.modalities[self.modality].spatial_dims
        return {self.modality: feature_layers(self.branch)} if dims else {}

    def _encode(self, inputs: dict[str, Tensor], presence: Presence) -> dict[str, Tensor]:
        name = self.modality
        if name not in presence.encoded:
            return {}
        return {name: pool_mean(self.branch(presence.gather(name, inputs[name])))}

    def _vector(self, inputs: dict[str, Tensor], presence: Presence) -> Tensor:
        name, encoded = self.modality, self._encode(inputs, presence)
        if self.token is not None and not encoded:
            return self.token.expand(presence.batch_size, -1)
        vector = presence.scatter(name, encoded[name])  # (B, C)
        if self.token is None:
            return vector
        return torch.where(presence.masks[name][:, None], vector, self.token.to(vector.dtype))


@register_model("late_fusion")
class LateFusion(nn.Module):
    """One encoder with heads of its own for each modality; logits are averaged over those that a study has.

    Source: Snoek, Worring, Smeulders, "Early versus late fusion in semantic video analysis", ACM Multimedia 2005, for
    the scheme; Kittler, Hatef, Duin, Matas, "On combining classifiers", IEEE TPAMI 1998, for the rule: a mean of logits
    is their product rule, made of equal weight for any number of classifiers.

    Adapted: all encoders are trained together, by the loss of the averaged logits.

    Args:
        modalities: The modalities by name, any number of them.
        tasks: The tasks by name.
        encoder: ``resnet18``, ``resnet50``, ``densenet121`` or ``efficientnet_b0``; a table has a perceptron.
        width: Preset of the widths, as in ``TwoBranch``.
        widths: Widths of the stages in place of a preset, where the encoder has such.

    Raises:
        ValueError: A choice that ``TwoBranch`` would refuse.
        MailnetError: The encoder is MONAI's, and MONAI is not installed.
    """

    def __init__(
        self,
        modalities: Mapping[str, ModalitySpec],
        tasks: Mapping[str, TaskSpec],
        *,
        encoder: str = "resnet18",
        width: str = "tiny",
        widths: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.modalities = dict(modalities)
        self.tasks = dict(tasks)
        self.branches, features = backbones(modalities, encoder, width, widths)
        self.heads = nn.ModuleDict({key(name): Heads({name: size}, tasks) for name, size in features.items()})

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return task -> logits (B, outputs) from modality -> (B, C, ...) and modality -> (B,) bool."""
        presence = resolve_presence(self.modalities, inputs, present, self.training)
        vectors = encode(self.branches, inputs, presence)  # (n, C)
        opinions = {name: self.heads[key(name)]({name: vector}) for name, vector in vectors.items()}  # (n, outputs)
        return {
            task: mean_present({name: logits[task] for name, logits in opinions.items()}, presence)
            for task in self.tasks
        }

    def encode(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return modality -> (n, C), the features of the n studies that have it; see ``MAIL.encode``."""
        return encode(self.branches, inputs, resolve_presence(self.modalities, inputs, present, self.training))

    def feature_layers(self) -> dict[str, list[nn.Module]]:
        """Return image or volume -> its layers; see ``MAIL.feature_layers``."""
        return feature_layers_of(self.branches, self.modalities)
