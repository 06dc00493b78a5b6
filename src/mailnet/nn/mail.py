"""MAIL and Robust-MAIL: a trunk for each modality, an exchange between them after stages, a head for each task.

These are our own networks on the ideas of the paper, with the faults of the published structure mended; the structure
as published is ``mail_reference``. The default of ``mail`` is what validation studies support, see docs/benchmarks.md:
each part that did not pay there (channel attention, branches of several scales, EMCAM) is an option.

Source: Dhar, Haghighat, Zaidi, "Effective and Robust Multimodal Medical Image Analysis", KDD 2026, arXiv 2602.15346.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional

from mailnet.nn.emcam import EMCAM, EMCAMOptions, Exchange, Frequency
from mailnet.nn.erla import ERLA, Attention, ERLAOptions, Shortcut, UnitKind
from mailnet.nn.heads import Heads
from mailnet.nn.layers import Activation, InputNorm, Stem, halved, key, plan_trunk, pool_mean, stage_widths
from mailnet.nn.noise import NoiseSource
from mailnet.nn.presence import Presence, absence_tokens, resolve_presence
from mailnet.nn.registry import register_model
from mailnet.nn.rpan import RPAN, MANVariant, RPFPlacement, rpan_conv
from mailnet.specs import ModalitySpec, TaskSpec

WIDE_TABLE = 256


class ImageTrunk(nn.Module):
    """The stem and the stages of an image or volume."""

    def __init__(
        self,
        spec: ModalitySpec,
        widths: Sequence[int],
        blocks: int,
        kernel: int,
        pool: bool,
        options: ERLAOptions,
        rpan: RPAN | None,
    ) -> None:
        super().__init__()
        stem, plans = plan_trunk(spec, len(widths))
        dims, ones = spec.spatial_dims, (1,) * spec.spatial_dims
        self.norm = InputNorm(spec)
        stride = halved(stem) if pool else stem
        first = rpan_conv(rpan, "stem", dims, spec.channels, widths[0], kernel, stride=stride)
        self.stem = Stem(first, widths[0], stem, options.activation, pool)
        inputs = (widths[0], *widths[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(
                ERLA(dims, before, width, plan, options, rpan),
                *(ERLA(dims, width, width, replace(plan, stride=ones), options, rpan) for _ in range(blocks - 1)),
            )
            for before, width, plan in zip(inputs, widths, plans, strict=True)
        )


class TableInput(InputNorm):
    """The features of a table; in training each of a study's is dropped with a chance, the others scaled up."""

    def __init__(self, spec: ModalitySpec, dropout: float) -> None:
        super().__init__(spec)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(super().forward(x), self.dropout, self.training)


class TableTrunk(nn.Module):
    """The embedding of a table and a dense layer a stage; layer norm, so that it can train on a single study."""

    def __init__(self, spec: ModalitySpec, widths: Sequence[int], feature_dropout: float) -> None:
        super().__init__()
        self.norm = TableInput(spec, feature_dropout)
        self.stem = nn.Sequential(nn.Linear(spec.channels, widths[0]), nn.LayerNorm(widths[0]), nn.ReLU())
        inputs = (widths[0], *widths[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Linear(before, width), nn.LayerNorm(width), nn.ReLU())
            for before, width in zip(inputs, widths, strict=True)
        )


def _feature_dropout(spec: ModalitySpec) -> float:
    return 0.5 if spec.channels > WIDE_TABLE else 0.0


@register_model("mail")
class MAIL(nn.Module):
    """Multimodal attention network for images, volumes and tables, any number of each.

    A modality that is absent in a study is not encoded, adds nothing to the fusion, and a learned token stands for its
    features, so that the study's result depends on nothing but what it has.

    Args:
        modalities: The modalities by name. The size of an image decides how fast its trunk shrinks it; an unknown size
            counts as 64 pixels.
        tasks: The tasks by name.
        width: Preset of the widths of the four stages: ``nano``, ``tiny``, ``small`` or ``base``.
        widths: Widths of the stages in place of a preset; any number of stages.
        blocks: ERLA blocks in a stage; 2 as published.
        stem_kernel: Kernel of the first convolution, odd; 7 as published.
        stem_pool: Where the stem quarters an axis, whether a max-pool does the second half, as published, or the
            convolution both.
        unit: ``single``, ``multiscale`` or the published ``emila``; see ``ERLAOptions`` for this and the next seven.
        branches: Kernels of the branches of an ``emila``.
        units: Units in an ERLA block.
        fuse_kernel: Kernel of the convolution that ends a block, odd; 1 as published.
        shortcut: How a shortcut halves the grid, by the ``mean`` of its pixels or, as published, ``strided``.
        activation: ``relu`` as published, ``silu`` or ``gelu``.
        attention: Statistics that channel attention reads, ``normalised`` or ``published``, or ``none`` without it.
        gamma: Initial scale of the channel attention's logits; None for the published random sign.
        emcam: After how many stages, the last ones, the modalities gate each other; True for all as published, False
            or 0 for none.
        frequency: ``spatial``, ``channel`` or ``none``; see ``EMCAMOptions`` for this and the next three.
        exchange: ``symmetric``, the published ``ring``, or ``none``.
        spatial_attention: Also gate each pixel.
        centred: Gates start at 1, not at the published one half.
        dropout: Chance that a feature is dropped before the heads in training.
        feature_dropout: Chance that an input of a table is dropped in training; None for 0.5 in tables of more than 256
            inputs (omics, which repeat themselves) and 0 in narrower ones, where each input counts.
        modality_dropout: Chance that a modality of a study is hidden in training; the last one never is. For training
            loops of one's own: ``mailnet.training`` hides modalities itself, whatever the network.
        rpan: What is random in the network; ``robust_mail`` sets it.

    Raises:
        ValueError: An unknown preset or choice, or a number out of its range.
    """

    def __init__(
        self,
        modalities: Mapping[str, ModalitySpec],
        tasks: Mapping[str, TaskSpec],
        *,
        width: str = "tiny",
        widths: Sequence[int] | None = None,
        blocks: int = 1,
        stem_kernel: int = 3,
        stem_pool: bool = True,
        unit: UnitKind = "single",
        branches: Sequence[int] = (1, 3, 5),
        units: int = 1,
        fuse_kernel: int = 1,
        shortcut: Shortcut = "mean",
        activation: Activation = "relu",
        attention: Attention = "none",
        gamma: float | None = 1.0,
        emcam: bool | int = 0,
        frequency: Frequency = "spatial",
        exchange: Exchange = "symmetric",
        spatial_attention: bool = True,
        centred: bool = True,
        dropout: float = 0.0,
        feature_dropout: float | None = None,
        modality_dropout: float = 0.0,
        rpan: RPAN | None = None,
    ) -> None:
        super().__init__()
        for name, chance in (
            ("dropout", dropout),
            ("feature_dropout", feature_dropout),
            ("modality_dropout", modality_dropout),
        ):
            if chance is not None and not 0 <= chance < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {chance}")
        if blocks < 1:
            raise ValueError(f"blocks must be at least 1, got {blocks}")
        if stem_kernel < 1 or stem_kernel % 2 == 0:
            raise ValueError(f"stem_kernel must be odd, got {stem_kernel}")
        block = ERLAOptions(unit, tuple(branches), units, fuse_kernel, shortcut, activation, attention, gamma)
        fusion = EMCAMOptions(frequency, exchange, spatial_attention, centred)
        channels = stage_widths(width, widths)
        fused = len(channels) if emcam is True else int(emcam)
        if not 0 <= fused <= len(channels):
            raise ValueError(f"emcam must be at most the number of stages, {len(channels)}, got {emcam}")
        self.modalities = dict(modalities)
        self.tasks = dict(tasks)
        self.modality_dropout = modality_dropout
        self.trunks = nn.ModuleDict(
            {
                key(name): TableTrunk(
                    spec, channels, _feature_dropout(spec) if feature_dropout is None else feature_dropout
                )
                if spec.kind == "tabular"
                else ImageTrunk(spec, channels, blocks, stem_kernel, stem_pool, block, rpan)
                for name, spec in modalities.items()
            }
        )
        self.unfused = len(channels) - fused  # stages before the first exchange
        self.fusions = nn.ModuleList(EMCAM(modalities, c, fusion, rpan) for c in channels[self.unfused :])
        self.tokens = absence_tokens(dict.fromkeys(modalities, channels[-1]))
        self.heads = Heads(dict.fromkeys(modalities, channels[-1]), tasks, dropout)

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return the logits of every task.

        Args:
            inputs: Modality -> (B, C, H, W) or (B, C, D, H, W) in [0, 1], or (B, F) for a table. A modality left out is
                absent in every study.
            present: Modality -> (B,) bool, True where the study has it. None, or a name left out, means all that is
                given.

        Returns:
            Task -> logits (B, outputs).

        Raises:
            ValueError: Inputs of a wrong shape, name or range, or a study without any modality.
        """
        presence = resolve_presence(self.modalities, inputs, present, self.training, self.modality_dropout)
        logits: dict[str, Tensor] = self.heads(presence.complete(self._encode(inputs, presence), self.tokens))
        return logits

    def encode(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return the features that the heads read, of the modalities that are there, in the order of their studies.

        Args:
            inputs: As of ``forward``.
            present: As of ``forward``.

        Returns:
            Modality -> (n, C), the n studies that have it; a modality that none has is left out.

        Raises:
            ValueError: As of ``forward``.
        """
        presence = resolve_presence(self.modalities, inputs, present, self.training, self.modality_dropout)
        return self._encode(inputs, presence)

    def feature_layers(self) -> dict[str, list[nn.Module]]:
        """Return image or volume -> the modules that give its features, (n, C, ...) or a dict of these, by stages."""
        images = [name for name, spec in self.modalities.items() if spec.spatial_dims]
        return {name: [*cast(nn.ModuleList, self.trunks[key(name)].stages), *self.fusions] for name in images}

    def _encode(self, inputs: dict[str, Tensor], presence: Presence) -> dict[str, Tensor]:
        trunks: dict[str, Any] = {name: self.trunks[key(name)] for name in presence.encoded}
        x = {name: trunk.stem(trunk.norm(presence.gather(name, inputs[name]))) for name, trunk in trunks.items()}
        for stage in range(len(next(iter(trunks.values())).stages)):
            x = {name: trunk.stages[stage](x[name]) for name, trunk in trunks.items()}  # (n, C_stage, ...)
            if stage >= self.unfused:
                x = self.fusions[stage - self.unfused](x, presence)
        return {name: pool_mean(features) for name, features in x.items()}  # (n, C_last)


@register_model("robust_mail")
class RobustMAIL(MAIL):
    """MAIL with RPAN: random projection filters and modulated attention noise.

    Where the random numbers come from, and whether a prediction is one draw, an average of draws, or without noise, is
    set by ``mailnet.nn.noise.set_noise(model, mode, draws, generator)``; a seeded generator makes a prediction
    repeatable.

    Args:
        modalities: The modalities by name.
        tasks: The tasks by name.
        attention: As in ``MAIL``; here there is one, since its noise is half of the defence.
        emcam: As in ``MAIL``; here after every stage, for the same reason.
        rpf: Which convolutions have random filters: ``stem`` (the first), ``units`` (those of each ERLA unit) or None.
        rpf_ratio: Share of random filters in each group of such a convolution.
        man: ``zero_mean`` adds zero-mean noise to the attentions and keeps every residual; ``published`` adds the
            authors' noise, of mean std^2, with their clipping and powers; None adds none.
        man_std: Standard deviation of the noise; 0.6 as published, at which the network learns much more slowly.
        options: Those of ``MAIL``.

    Raises:
        ValueError: An unknown choice, or a number out of its range.
    """

    def __init__(
        self,
        modalities: Mapping[str, ModalitySpec],
        tasks: Mapping[str, TaskSpec],
        *,
        attention: Attention = "normalised",
        emcam: bool | int = True,
        rpf: RPFPlacement | None = "stem",
        rpf_ratio: float = 0.25,
        man: MANVariant | None = "zero_mean",
        man_std: float = 0.2,
        **options: Any,
    ) -> None:
        noise = NoiseSource()
        rpan = RPAN(rpf, rpf_ratio, man, man_std, noise)
        super().__init__(modalities, tasks, attention=attention, emcam=emcam, rpan=rpan, **options)
        self.noise = noise

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return the logits of every task: of one draw, or in noise mode ``mean`` of the averaged probabilities."""
        return self.noise.average(lambda: super(RobustMAIL, self).forward(inputs, present), self.tasks)
