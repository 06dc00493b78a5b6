"""Several trained networks as one, whose answer is the mean of theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mailnet.nn.noise import mean_logits
from mailnet.nn.registry import create_model, register_model
from mailnet.specs import ModalitySpec, TaskSpec


@register_model("ensemble")
class Ensemble(nn.Module):
    """The mean of the probabilities of networks that answer the same questions of the same inputs.

    From outside it is a network as any other: logits come out, gradients go through all members, and one source of
    random numbers (``mailnet.nn.noise.set_noise``) leads those of all members that draw.

    Args:
        modalities: The modalities by name.
        tasks: The tasks by name.
        members: Of each network its ``name`` in the registry and the ``options`` it was created with.

    Raises:
        ValueError: No member, a member without a name or with unknown keys, or one that the registry refuses.

    Source: Lakshminarayanan, Pritzel, Blundell, "Simple and scalable predictive uncertainty estimation using deep
    ensembles", NeurIPS 2017.
    """

    def __init__(
        self,
        modalities: Mapping[str, ModalitySpec],
        tasks: Mapping[str, TaskSpec],
        *,
        members: Sequence[Mapping[str, Any]],
    ) -> None:
        super().__init__()
        if not members:
            raise ValueError("an ensemble needs members: [{'name': ..., 'options': {...}}, ...]")
        for member in members:
            if "name" not in member or set(member) - {"name", "options"}:
                raise ValueError(f"a member has a name and options, got {', '.join(map(str, member)) or 'neither'}")
        self.modalities = dict(modalities)
        self.tasks = dict(tasks)
        self.members = nn.ModuleList(
            create_model(member["name"], modalities, tasks, **member.get("options", {})) for member in members
        )

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return task -> logits (B, outputs) of the mean probabilities, from modality -> (B, ...) and (B,) bool."""
        return mean_logits(self.each(inputs, present), self.tasks)

    def each(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> list[dict[str, Tensor]]:
        """Return the logits of each member, task -> (B, outputs); those of an ordinal task in falling order."""
        # The mean of thresholds is that of the probabilities only where none of them is out of order.
        return [
            {name: values.cummin(-1).values if self.tasks[name].kind == "ordinal" else values
             for name, values in member(inputs, present).items()}
            for member in self.members
        ]  # fmt: skip

    def feature_layers(self) -> dict[str, list[nn.Module]]:
        """Return image or volume -> the layers of all members that have any; see ``MAIL.feature_layers``.

        A class activation map is made of each member by itself, see ``mailnet.explain.methods.cam``.
        """
        found: dict[str, list[nn.Module]] = {}
        for member in self.members:
            own: Any = getattr(member, "feature_layers", dict)
            for name, layers in own().items():
                found.setdefault(name, []).extend(layers)
        return found
