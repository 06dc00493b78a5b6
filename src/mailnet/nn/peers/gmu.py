"""Gated multimodal unit: gates that all modalities steer weigh each modality's features.

With x_i the features of modality i of M, the unit computes

    h_i = tanh(W_i x_i),  z_i = sigmoid(V_i [x_1, ..., x_M]),  h = z_1 * h_1 + ... + z_M * h_M,

and for M = 2 it has one gate, h = z * h_1 + (1 - z) * h_2. As in the paper's equations there are no biases.

Adapted: the encoders are ResNet-18s trained along with the unit, where the authors had fixed features of films' texts
and posters; a linear head a task stands in place of their maxout classifier; an absent modality is a learned token.
With two modalities the gate belongs to the first, so that exchanging the two turns z into 1 - z: the same networks can
be learned, but not the same weights serve. With any other number the order makes no difference.

Source: Arevalo, Solorio, Montes-y-Gomez, Gonzalez, "Gated Multimodal Units for Information Fusion", ICLR 2017 workshop,
arXiv 1702.01992.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from mailnet.nn.layers import key
from mailnet.nn.peers.backbones import VectorFusion
from mailnet.nn.peers.joint import Joint, total_of
from mailnet.nn.registry import register_model
from mailnet.specs import ModalitySpec, TaskSpec


class GMU(nn.Module):
    """The unit.

    Args:
        features: Modality -> length of its vector.
        outputs: Length of the fused vector.
    """

    def __init__(self, features: Mapping[str, int], outputs: int) -> None:
        super().__init__()
        self.transform = nn.ModuleDict(
            {key(name): nn.Linear(size, outputs, bias=False) for name, size in features.items()}
        )
        gated = list(features)[:1] if len(features) == 2 else features
        self.gates = nn.ModuleDict({key(name): Joint(features, outputs, bias=False) for name in gated})

    def forward(self, vectors: Mapping[str, Tensor]) -> Tensor:
        """Return the fused vector (B, outputs) from modality -> (B, C)."""
        hidden = {key(name): self.transform[key(name)](vector).tanh() for name, vector in vectors.items()}
        gates = {name: gate(vectors).sigmoid() for name, gate in self.gates.items()}
        if len(hidden) == 2:
            (first, gate), *_ = gates.items()
            (second,) = set(hidden) - {first}
            gates[second] = 1 - gate
        return total_of(gates[name] * hidden[name] for name in hidden)


@register_model("gated_multimodal")
class GatedMultimodal(VectorFusion):
    """ResNet-18 for images and volumes, a perceptron for each table, a gated multimodal unit, linear heads.

    Args:
        modalities: The modalities by name, any number of them.
        tasks: The tasks by name.
        width: Preset of the four widths of a ResNet-18: ``nano``, ``tiny``, ``small`` (as published) or ``base``.
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
        super().__init__(modalities, tasks, GMU, width, widths)
