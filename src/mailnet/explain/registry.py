"""Methods by name. A method is a function of a question that returns what each modality is worth."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from mailnet.registry import Registry


@dataclass
class Found:
    """What a method found for one draw of the network.

    Args:
        maps: Image or volume -> (B, ...) at input resolution, densities as in ``Explanation``.
        columns: Table -> (B, F).
        signed: Whether values below zero mean something; where not, they are cut off once draws are averaged.
        residual: (B,), as in ``Explanation``.
        stages: Image or volume -> maps of the stages, as in ``Explanation``.
    """

    maps: dict[str, Tensor]
    columns: dict[str, Tensor] = field(default_factory=dict)
    signed: bool = False
    residual: Tensor | None = None
    stages: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)


Explainer = Callable[..., Found]
E = TypeVar("E", bound=Explainer)

# Modules that register methods when imported; captum is slow to load and some need none of it.
EXPLAINERS: Registry[Explainer] = Registry(
    "method",
    {
        "grad_cam": "mailnet.explain.methods.cam",
        "grad_cam_pp": "mailnet.explain.methods.cam",
        "layer_cam": "mailnet.explain.methods.cam",
        "contrast_cam": "mailnet.explain.methods.cam",
        "gradient": "mailnet.explain.methods.gradients",
        "integrated_gradients": "mailnet.explain.methods.gradients",
        "occlusion": "mailnet.explain.methods.occlusion",
        "rise": "mailnet.explain.methods.rise",
        "emcam": "mailnet.explain.methods.attention",
    },
)


def register_explainer(name: str) -> Callable[[E], E]:
    """Register a method ``f(question, **options) -> Found`` under a name.

    Raises:
        ValueError: The name is taken.
    """

    return EXPLAINERS.register(name)


def list_explainers() -> list[str]:
    """Return the names that ``get_explainer`` knows.

    >>> "grad_cam" in list_explainers()
    True
    """
    return EXPLAINERS.names()


def get_explainer(name: str, **options: Any) -> Explainer:
    """Return the method of that name, its options checked.

    Raises:
        ValueError: An unknown name or option.
    """
    explainer = EXPLAINERS.get(name)
    known = _options(explainer)
    if unknown := sorted(set(options) - set(known)):
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise ValueError(f"method '{name}' has no option '{unknown[0]}'; {has}")
    return explainer


def default_options(name: str) -> dict[str, Any]:
    """Return the options of a method with what it takes where they are not given.

    Raises:
        ValueError: An unknown name.

    >>> default_options("integrated_gradients")["steps"]
    32
    """
    return {key: parameter.default for key, parameter in _options(get_explainer(name)).items()}


def _options(explainer: Explainer) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(explainer).parameters.values()
    return {parameter.name: parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
