"""Low-rank tensor fusion: every product of features across the modalities, through weights of a small rank.

With z_m = [x_m, 1] the features of modality m with a one appended, tensor fusion multiplies the outer product of all
z_m by a weight tensor. When that tensor is a sum of r outer products of vectors w_m^(i), no outer product is needed:

    h = sum over i = 1..r of the element-wise product over m of (w_m^(i) z_m).

Adapted: the encoders are ResNet-18s trained along with the fusion, where the authors had features of text, speech and
video; linear heads read h; an absent modality is a learned token. The authors' program also weighs the r terms and adds
a bias: the factors and the heads can express both. The order of the modalities makes no difference.

Source: Liu, Shen, Lakshminarasimhan, Liang, Zadeh, Morency, "Efficient Low-rank Multimodal Fusion with
Modality-Specific Factors", ACL 2018, arXiv 1806.00064.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from mailnet.nn.layers import key
from mailnet.nn.peers.backbones import VectorFusion
from mailnet.nn.registry import register_model
from mailnet.specs import ModalitySpec, TaskSpec


class LowRankTensor(nn.Module):
    """The fusion.

    Args:
        features: Modality -> length of its vector.
        outputs: Length of the fused vector.
        rank: Number of terms r.
    """

    def __init__(self, features: Mapping[str, int], outputs: int, rank: int) -> None:
        super().__init__()
        self.factors = nn.ParameterDict(
            {key(name): torch.empty(rank, size + 1, outputs) for name, size in features.items()}
        )
        for factor in self.factors.values():
            for term in factor:
                nn.init.xavier_normal_(term)

    def forward(self, vectors: Mapping[str, Tensor]) -> Tensor:
        """Return the fused vector (B, outputs) from modality -> (B, C)."""
        terms = [
            torch.einsum("bc,rco->bro", functional.pad(vector, (0, 1), value=1.0), self.factors[key(name)])
            for name, vector in vectors.items()
        ]
        return torch.stack(terms).prod(0).sum(1)  # (M, B, r, outputs) -> (B, outputs)


@register_model("low_rank_fusion")
class LowRankFusion(VectorFusion):
    """ResNet-18 for images and volumes, a perceptron for each table, low-rank tensor fusion, linear heads.

    Args:
        modalities: The modalities by name, any number of them.
        tasks: The tasks by name.
        width: Preset of the four widths of a ResNet-18: ``nano``, ``tiny``, ``small`` (as published) or ``base``.
        widths: Widths of the stages in place of a preset.
        rank: Number of terms of the weight tensor.

    Raises:
        ValueError: An unknown preset, or a rank below 1.
    """

    def __init__(
        self,
        modalities: Mapping[str, ModalitySpec],
        tasks: Mapping[str, TaskSpec],
        *,
        width: str = "tiny",
        widths: Sequence[int] | None = None,
        rank: int = 4,
    ) -> None:
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}")
        super().__init__(modalities, tasks, partial(LowRankTensor, rank=rank), width, widths)
