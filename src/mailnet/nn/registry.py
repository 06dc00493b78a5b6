"""Networks by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

from mailnet.registry import Registry
from mailnet.specs import ModalitySpec, TaskSpec, modality_specs, task_specs


class Network(Protocol):
    """What every registered network offers beside ``torch.nn.Module``."""

    modalities: dict[str, ModalitySpec]
    tasks: dict[str, TaskSpec]

    def __call__(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]: ...


Builder = Callable[..., nn.Module]
B = TypeVar("B", bound=Builder)

# Modules that register networks when imported, so that peers cost nothing to others.
NETWORKS: Registry[Builder] = Registry(
    "model",
    {
        "ensemble": "mailnet.nn.ensemble",
        "mail": "mailnet.nn.mail",
        "robust_mail": "mailnet.nn.mail",
        "pni_mail": "mailnet.nn.injection",
        "mail_reference": "mailnet.nn.reference",
        "robust_mail_reference": "mailnet.nn.reference",
        "two_branch_resnet18": "mailnet.nn.peers.branches",
        "two_branch_resnet50": "mailnet.nn.peers.branches",
        "two_branch_densenet121": "mailnet.nn.peers.branches",
        "two_branch_efficientnet_b0": "mailnet.nn.peers.branches",
        "single_modality": "mailnet.nn.peers.branches",
        "late_fusion": "mailnet.nn.peers.branches",
        "early_fusion": "mailnet.nn.peers.early",
        "drifa_net": "mailnet.nn.peers.drifa",
        "gated_multimodal": "mailnet.nn.peers.gmu",
        "low_rank_fusion": "mailnet.nn.peers.low_rank",
        "mbt": "mailnet.nn.peers.mbt",
        "mmtm": "mailnet.nn.peers.mmtm",
    },
)
# Networks made of trained ones: no study asks for them by name, so they are not listed.
_OF_OTHERS = ("ensemble",)


def register_model(name: str) -> Callable[[B], B]:
    """Register a builder ``f(modalities, tasks, **options) -> nn.Module`` under ``name``.

    ``modalities`` and ``tasks`` arrive as dicts of full specs in the order given by the caller. A builder whose class
    attribute or wrapper changes nothing is simplest: decorate the network class itself.

    Raises:
        ValueError: The name is taken.
    """

    return NETWORKS.register(name)


def list_models() -> list[str]:
    """Return the names of the networks that can be trained.

    ``create_model`` also knows ``ensemble``, which is made of these.

    >>> "mail" in list_models()
    True
    """
    return [name for name in NETWORKS.names() if name not in _OF_OTHERS]


def create_model(
    name: str,
    modalities: Mapping[str, int | ModalitySpec],
    tasks: Mapping[str, int | TaskSpec],
    **options: Any,
) -> nn.Module:
    """Create a network.

    Args:
        name: One of ``list_models()``, or ``ensemble``.
        modalities: Name -> channels or ``ModalitySpec``, in the order the network shall keep.
        tasks: Name -> number of classes or ``TaskSpec``.
        options: Passed to the network; each network documents its own.

    Returns:
        A module with ``forward(inputs, present=None) -> {task: logits (B, outputs)}``.

    Raises:
        ValueError: An unknown name, or options that the network refuses.
    """
    return NETWORKS.get(name)(modality_specs(modalities), task_specs(tasks), **options)


def default_options(name: str) -> dict[str, Any]:
    """Return what a network takes for the options that are not given, so that a stored one outlives a new default.

    Options that are None by default are left out: there the network decides.

    Raises:
        ValueError: An unknown name.

    >>> default_options("mail")["width"]
    'tiny'
    """
    builder = NETWORKS.get(name)
    found: dict[str, Any] = {}
    # Options that a class passes on are those of its bases.
    for owner in builder.__mro__ if isinstance(builder, type) else (builder,):
        parameters = inspect.signature(owner).parameters.values()
        chosen = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}
        found = chosen | found
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return {name: value for name, value in found.items() if value is not None}
