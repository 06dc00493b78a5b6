"""The published networks: a trunk for each modality, EMCAM after each stage, a linear head for each task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mailnet.nn.noise import set_noise
from mailnet.nn.reference.blocks import EMCAM, EMILA, ERLA, GROUPS
from mailnet.nn.reference.layers import SameConv2d, batch_norm, initialise, max_pool_same
from mailnet.nn.reference.robust import RobustEMCAM, RobustEMILA
from mailnet.nn.registry import register_model
from mailnet.specs import ModalitySpec, TaskSpec

WIDTHS = (64, 128, 256, 512)


class Trunk(nn.Module):
    """One modality's layers: a stem, then two ERLAs a stage.

    Args:
        in_channels: Image channels.
        widths: Channels of each stage.
        dropout: Probability of the dropout between the two ERLAs of each stage but the first.
        emila: Makes an EMILA from (in_channels, channels, stride).
    """

    def __init__(
        self, in_channels: int, widths: Sequence[int], dropout: float, emila: Callable[[int, int, int], nn.Module]
    ) -> None:
        super().__init__()
        self.stem = SameConv2d(in_channels, widths[0], 7, stride=2)
        self.stem_bn = batch_norm(widths[0])
        self.erlas = nn.ModuleList()
        previous = widths[0]
        for stage, width in enumerate(widths):
            self.erlas.append(ERLA(previous, width, 1 if stage == 0 else 2, emila))
            self.erlas.append(ERLA(width, width, 1, emila))
            previous = width
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, stage: int) -> Tensor:
        """Run one stage on what the one before gave: the image for stage 0, which begins with the stem.

        The stem divides H and W by 4, stage 0 keeps them and every other stage halves them.
        """
        if stage == 0:
            x = max_pool_same(F.relu(self.stem_bn(self.stem(x))), 3, 2)
        x = self.erlas[2 * stage](x)
        if stage > 0:
            x = self.dropout(x)
        y: Tensor = self.erlas[2 * stage + 1](x)
        return y


class PublishedNetwork(nn.Module):
    """What MAIL and Robust-MAIL share; they differ in their EMILA and EMCAM."""

    def __init__(
        self,
        modalities: dict[str, ModalitySpec],
        tasks: dict[str, TaskSpec],
        widths: Sequence[int],
        dropout: float,
        emila: Callable[[int, int, int], nn.Module],
        emcam: Callable[[int, int], nn.Module],
    ) -> None:
        super().__init__()
        for name, spec in modalities.items():
            if spec.kind != "image":
                raise ValueError(f"modality '{name}': the published networks take images only, got '{spec.kind}'")
        if not widths or any(width < GROUPS or width % GROUPS for width in widths):
            raise ValueError(f"widths must be multiples of {GROUPS}, at least one, got {tuple(widths)}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        self.modalities = dict(modalities)
        self.tasks = dict(tasks)
        self.trunks = nn.ModuleList([Trunk(spec.channels, widths, dropout, emila) for spec in modalities.values()])
        self.emcams = nn.ModuleList([emcam(width, len(modalities)) for width in widths])
        self.heads = nn.ModuleList([nn.Linear(len(modalities) * widths[-1], task.outputs) for task in tasks.values()])
        initialise(self)

    def features(self, inputs: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return what leaves EMCAM after each stage.

        Args:
            inputs: Modality -> (B, channels, H, W), all of one size.

        Returns:
            For each stage, modality -> (B, C, H', W').

        Raises:
            ValueError: A modality is missing, has other channels than declared, or another size than the first.
        """
        xs = self._images(inputs)
        taps: list[dict[str, Tensor]] = []
        for stage, emcam in enumerate(self.emcams):
            xs = emcam([trunk(x, stage) for trunk, x in zip(self.trunks, xs, strict=True)])
            taps.append(dict(zip(self.modalities, xs, strict=True)))
        return taps

    def feature_layers(self) -> dict[str, list[nn.Module]]:
        """Return modality -> the EMCAMs, which give the features of all; see ``MAIL.feature_layers``."""
        return {name: list(self.emcams) for name in self.modalities}

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return each task's logits.

        Args:
            inputs: Modality -> (B, channels, H, W), all of one size.
            present: Modality -> (B,) bool; every entry must be True.

        Returns:
            Task -> logits (B, outputs).

        Raises:
            ValueError: An absent modality, or inputs that ``features`` refuses.
        """
        self._require_present(present)
        return self._logits(inputs)

    def _logits(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        fused = torch.cat(list(self.features(inputs)[-1].values()), dim=1)  # (B, M C, H, W)
        pooled = fused.mean((2, 3))
        return {name: head(pooled) for name, head in zip(self.tasks, self.heads, strict=True)}

    def _images(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        images: list[Tensor] = []
        for name, spec in self.modalities.items():
            if name not in inputs:
                raise ValueError(f"modality '{name}' is missing; the published networks need all, use 'mail'")
            x = inputs[name]
            if x.ndim != 4 or x.shape[1] != spec.channels:
                raise ValueError(f"modality '{name}': expected (B, {spec.channels}, H, W), got {tuple(x.shape)}")
            if images and (x.shape[0], *x.shape[2:]) != (images[0].shape[0], *images[0].shape[2:]):
                raise ValueError(
                    f"modality '{name}': shape {tuple(x.shape)} differs from the first modality's "
                    f"{tuple(images[0].shape)}; the published networks share one map, resize the images to one size"
                )
            images.append(x)
        return images

    def _require_present(self, present: dict[str, Tensor] | None) -> None:
        for name, mask in (present or {}).items():
            if not bool(mask.all()):
                raise ValueError(f"modality '{name}' is absent in a study; the published networks need all, use 'mail'")


@register_model("mail_reference")
class MailReference(PublishedNetwork):
    """MAIL exactly as published, for comparison; ``mail`` is our own network on the same ideas.

    Images are read as they are, without normalisation. Initial values are Keras' defaults.

    Args:
        modalities: M >= 1 images, all of one size. Two is the published number; a ring of any length follows from it.
        tasks: Any tasks; each gets one linear head on the fused vector.
        widths: Channels of each stage, multiples of 16.
        dropout: Probability of the dropout inside each stage but the first, in training only.

    Raises:
        ValueError: A modality that is no image, widths that 16 does not divide, or a dropout outside [0, 1).

    Source: Dhar, Haghighat, Zaidi, "Effective and Robust Multimodal Medical Image Analysis", KDD 2026,
    arXiv 2602.15346, and the authors' public code.

    >>> from mailnet.nn import create_model
    >>> model = create_model("mail_reference", {"mri": 3, "xray": 1}, {"tumour": 4}, widths=(16, 32))
    >>> model({"mri": torch.rand(2, 3, 32, 32), "xray": torch.rand(2, 1, 32, 32)})["tumour"].shape
    torch.Size([2, 4])
    """

    def __init__(
        self,
        modalities: dict[str, ModalitySpec],
        tasks: dict[str, TaskSpec],
        *,
        widths: Sequence[int] = WIDTHS,
        dropout: float = 0.25,
    ) -> None:
        super().__init__(modalities, tasks, widths, dropout, EMILA, EMCAM)


@register_model("robust_mail_reference")
class RobustMailReference(PublishedNetwork):
    """Robust-MAIL exactly as published, for comparison; ``robust_mail`` is our own network on the same ideas.

    As published its noise stays on at inference, one draw a forward pass; ``mailnet.nn.noise.set_noise(model, mode,
    draws, generator)`` averages draws, turns the noise off, or makes a prediction repeatable.

    Args:
        modalities: As for ``mail_reference``.
        tasks: As for ``mail_reference``.
        widths: As for ``mail_reference``.
        dropout: As for ``mail_reference``.
        gpc_ratio: Share of random filters in grouped convolutions; 0 in the published run.
        dwc_ratio: Share of random filters in depthwise convolutions; 0 in the published run.
        noise_std: Standard deviation of the modulated attention noise.

    Raises:
        ValueError: As for ``mail_reference``, or ratios that the groups do not divide.
    """

    def __init__(
        self,
        modalities: dict[str, ModalitySpec],
        tasks: dict[str, TaskSpec],
        *,
        widths: Sequence[int] = WIDTHS,
        dropout: float = 0.25,
        gpc_ratio: float = 0.0,
        dwc_ratio: float = 0.0,
        noise_std: float = 0.6,
    ) -> None:
        if noise_std < 0:
            raise ValueError(f"noise_std must not be negative, got {noise_std}")
        emila = partial(RobustEMILA, gpc_ratio=gpc_ratio, dwc_ratio=dwc_ratio, noise_std=noise_std)
        super().__init__(modalities, tasks, widths, dropout, emila, partial(RobustEMCAM, noise_std=noise_std))
        self.noise = set_noise(self)

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return each task's logits, those of averaged probabilities in mode ``mean``; see ``mail_reference``."""
        self._require_present(present)
        return self.noise.average(lambda: self._logits(inputs), self.tasks)
