"""EMCAM, the efficient multimodal cross-attention module: each modality is gated by what all of them show.

As in the published module, a frequency half (MFIFA) reads statistics of a cosine transform, a spatial half (EMSCA)
lets the modalities update each other, and the result is a gate on each modality's features. Its faults are mended: the
cosine transform may run over space instead of over channels, which have no order; the gate starts at 1; the update may
be symmetric in the modalities; and a spatial map exists. A modality that is absent in a study takes no part.

Source: Dhar, Haghighat, Zaidi, "Effective and Robust Multimodal Medical Image Analysis", KDD 2026, arXiv 2602.15346.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from mailnet.nn.layers import conv, expand_as, key, pool_max, pool_mean, resize, spatial_axes
from mailnet.nn.presence import Presence
from mailnet.nn.rpan import RPAN
from mailnet.specs import ModalitySpec

Frequency: TypeAlias = Literal["spatial", "channel", "none"]
Exchange: TypeAlias = Literal["symmetric", "ring", "none"]


@dataclass(frozen=True)
class EMCAMOptions:
    """How an EMCAM is built.

    Args:
        frequency: Which statistics of a modality are read: ``spatial`` mean, low-band and high-band energy of a cosine
            transform over space; ``channel`` maximum, mean and minimum of one over channels, as published; ``none``
            mean and maximum of the features.
        exchange: How modalities update each other: ``symmetric`` by the mean of the others; ``ring`` one after the
            other, as published; ``none`` not at all.
        spatial_attention: Also gate each pixel, by a map that images on any grid (and volumes among themselves) share.
        centred: Gates start at 1 (twice a sigmoid); otherwise at one half, as published.

    Raises:
        ValueError: An unknown choice.
    """

    frequency: Frequency = "spatial"
    exchange: Exchange = "symmetric"
    spatial_attention: bool = True
    centred: bool = True

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("frequency", self.frequency, get_args(Frequency)),
            ("exchange", self.exchange, get_args(Exchange)),
        ):
            if value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


class EMCAM(nn.Module):
    """The fusion of one stage.

    Args:
        modalities: The modalities by name.
        channels: C of every modality at this stage.
        options: How it is built.
        rpan: Where the noise on its gates comes from, if any.
    """

    def __init__(
        self, modalities: Mapping[str, ModalitySpec], channels: int, options: EMCAMOptions, rpan: RPAN | None = None
    ) -> None:
        super().__init__()
        self.options = options
        hidden = max(channels // 2, 16)
        count = 2 if options.frequency == "none" else 3
        self.describe = nn.ModuleDict(
            {
                key(name): nn.Linear((count if spec.spatial_dims else 1) * channels, hidden)
                for name, spec in modalities.items()
            }
        )
        self.update = nn.Linear(hidden, hidden) if len(modalities) > 1 and options.exchange != "none" else None
        self.gate = nn.ModuleDict({key(name): nn.Linear(hidden, channels) for name in modalities})
        self.look = nn.ModuleDict()
        if options.spatial_attention:
            grids = {name: spec.spatial_dims for name, spec in modalities.items() if spec.spatial_dims}
            for name, dims in grids.items():
                shared = list(grids.values()).count(dims) > 1 and options.exchange != "none"
                self.look[key(name)] = conv(dims, 2, 2 if shared else 1, 3, bias=True)
        for name, parameter in [*self.gate.named_parameters(), *self.look.named_parameters()]:
            # so that every gate starts near its centre
            _ = nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.normal_(parameter, std=0.01)
        self.man = rpan.attention_noise("attention_noise", trained=True) if rpan else None
        self.published_noise = rpan is not None and rpan.man == "published"
        if options.frequency == "channel":
            self.register_buffer("channel_dct", dct_matrix(channels), persistent=False)

    def forward(self, features: Mapping[str, Tensor], presence: Presence) -> dict[str, Tensor]:
        """Return the gated features.

        Args:
            features: Modality -> (n, C, ...), or (n, C) for a table, of the studies that have it.
            presence: Who has what.
        """
        gates = self.gates(features, presence)
        return {name: x * gates[name] for name, x in features.items()}

    def gates(self, features: Mapping[str, Tensor], presence: Presence) -> dict[str, Tensor]:
        """Return what each modality's features are multiplied by.

        Arguments are those of ``forward``.

        Returns:
            Modality -> (n, C, ...), or (n, C, 1, ...) where no place differs from another.
        """
        vectors = self._exchange({name: self._describe(name, x) for name, x in features.items()}, presence)
        maps = self._maps(features, presence)
        gates = {}
        for name, x in features.items():
            gate = expand_as(self._gate(self.gate[key(name)](vectors[name])), x)
            if name in maps:
                gate = gate * self._gate(maps[name])
            gates[name] = self._noisy(gate)
        return gates

    def _gate(self, logits: Tensor) -> Tensor:
        return 2 * logits.sigmoid() if self.options.centred else logits.sigmoid()

    def _noisy(self, gate: Tensor) -> Tensor:
        if self.man is None:
            return gate
        if self.published_noise:
            clipped: Tensor = self.man(gate).clamp(0, 1)
            return gate * clipped**5
        noisy: Tensor = self.man(gate)
        return noisy

    def _describe(self, name: str, x: Tensor) -> Tensor:
        """(n, C, ...) -> (n, hidden)."""
        if x.ndim == 2:
            statistics = x  # a table's vector is what it shows; it has no space to take statistics over
        elif self.options.frequency == "spatial":
            statistics = torch.cat(spatial_bands(x), 1)
        elif self.options.frequency == "channel":
            d = torch.einsum("kc,nc...->nk...", self.channel_dct, x)
            statistics = torch.cat([pool_max(d), pool_mean(d), -pool_max(-d)], 1)
        else:
            statistics = torch.cat([pool_mean(x), pool_max(x)], 1)
        described: Tensor = self.describe[key(name)](statistics)
        return described.relu()

    def _exchange(self, own: dict[str, Tensor], presence: Presence) -> dict[str, Tensor]:
        """Modality -> (n, hidden), each updated by the others that the study has."""
        if self.update is None:
            return own
        rows = {name: presence.scatter(name, vector) for name, vector in own.items()}  # (B, hidden), zeros where absent
        masks = {name: presence.masks[name][:, None] for name in rows}
        others = self._ring(rows, masks) if self.options.exchange == "ring" else self._mean_of_others(rows, masks)
        return {name: vector + self.update(presence.gather(name, others[name])) for name, vector in own.items()}

    def _mean_of_others(self, rows: dict[str, Tensor], masks: dict[str, Tensor]) -> dict[str, Tensor]:
        total = torch.stack(list(rows.values())).sum(0)
        others = torch.stack(list(masks.values())).sum(0) - 1
        return {name: (total - vector) / others.clamp(min=1) for name, vector in rows.items()}

    def _ring(self, rows: dict[str, Tensor], masks: dict[str, Tensor]) -> dict[str, Tensor]:
        assert self.update is not None
        previous = torch.zeros_like(next(iter(rows.values())))
        for name, vector in rows.items():
            previous = torch.where(masks[name], vector, previous)  # the first is updated by the last, as it was
        others = {}
        for name, vector in rows.items():
            others[name] = previous
            previous = torch.where(masks[name], vector + self.update(previous), previous)
        return others

    def _maps(self, features: Mapping[str, Tensor], presence: Presence) -> dict[str, Tensor]:
        """Modality -> spatial logits (n, 1, ...): its own, and the mean of the others' on its grid."""
        looked = {
            name: self.look[key(name)](torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1))
            for name, x in features.items()
            if key(name) in self.look
        }
        maps = {}
        for name, own in looked.items():
            others = [k for k, other in looked.items() if k != name and other.ndim == own.ndim and other.shape[1] == 2]
            maps[name] = own[:, :1]
            if others:
                size = own.shape[2:]
                total = torch.stack([presence.scatter(k, resize(looked[k][:, 1:], size)) for k in others]).sum(0)
                count = torch.stack([presence.masks[k] for k in others]).sum(0).clamp(min=1)
                maps[name] = maps[name] + presence.gather(name, total / expand_as(count[:, None], total))
        return maps


def dct_matrix(size: int, device: torch.device | None = None) -> Tensor:
    """Return the orthonormal DCT-II of ``size`` points as a matrix (frequency, place)."""
    place = torch.arange(size, device=device)
    frequency = place[:, None]
    matrix = torch.cos(math.pi / size * (place + 0.5) * frequency) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix


def spatial_bands(x: Tensor) -> list[Tensor]:
    """Return three vectors (B, C) of features (B, C, ...): mean, low-band and high-band amplitude.

    The bands are the root mean square of the coefficients of an orthonormal DCT-II over space whose frequency is below
    and above a quarter of the sampling rate on every axis, without the constant.
    """
    # Each band is a difference of nearly equal energies, of which bf16 leaves little.
    with torch.autocast(x.device.type, enabled=False):
        return [band.to(x.dtype) for band in _bands(x.to(torch.promote_types(x.dtype, torch.float32)))]


def _bands(x: Tensor) -> list[Tensor]:
    mean = pool_mean(x)
    low = x.movedim(1, -1)  # (B, ..., C): in this order each product below reads memory as it lies
    for axis, size in enumerate(x.shape[2:], start=1):
        before, after = low.shape[1:axis], low.shape[axis + 1 :]
        half = dct_matrix(size, x.device)[: -(-size // 2)].to(x.dtype)
        low = (half @ low.reshape(-1, size, math.prod(after))).reshape(-1, *before, len(half), *after)
    pixels = math.prod(x.shape[2:])
    # Parseval: coefficients and pixels have one energy, so the high band is what the low band leaves over.
    below = low.square().flatten(1, -2).sum(1) / pixels
    total = x.square().mean(spatial_axes(x))
    return [mean, _root(below - mean.square()), _root(total - below)]


def _root(energy: Tensor) -> Tensor:
    # The square root of zero has an infinite slope.
    return energy.clamp(min=0).add(1e-6).sqrt()
