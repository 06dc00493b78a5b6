"""Attacks by name. An attack is a function of a problem that returns rows of its space, (B, D)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

from mailnet.registry import Registry

Attack = Callable[..., Tensor]
A = TypeVar("A", bound=Attack)

# Modules that register attacks when imported.
ATTACKS: Registry[Attack] = Registry(
    "attack",
    {
        "fab": "mailnet.attacks.fab",
        "fab_t": "mailnet.attacks.fab",
        "hop_skip_jump": "mailnet.attacks.decision",
        "fgsm": "mailnet.attacks.pgd",
        "bim": "mailnet.attacks.pgd",
        "pgd": "mailnet.attacks.pgd",
        "mim": "mailnet.attacks.momentum",
        "ni_fgsm": "mailnet.attacks.momentum",
        "vmi_fgsm": "mailnet.attacks.momentum",
        "deepfool": "mailnet.attacks.minimal",
        "cw": "mailnet.attacks.minimal",
        "uniform_noise": "mailnet.attacks.noise",
        "apgd": "mailnet.attacks.apgd",
        "apgd_ce": "mailnet.attacks.apgd",
        "apgd_dlr": "mailnet.attacks.apgd",
        "apgd_t": "mailnet.attacks.apgd",
        "square": "mailnet.attacks.square",
    },
)


def register_attack(name: str) -> Callable[[A], A]:
    """Register an attack ``f(problem, *, generator=None, **options) -> rows (B, D)`` under a name.

    Raises:
        ValueError: The name is taken.
    """

    return ATTACKS.register(name)


def list_attacks() -> list[str]:
    """Return the names that ``get_attack`` knows.

    >>> "pgd" in list_attacks()
    True
    """
    return ATTACKS.names()


def get_attack(name: str, **options: Any) -> Attack:
    """Return an attack of that name, its options checked.

    Raises:
        ValueError: An unknown name or option.
    """
    attack = ATTACKS.get(name)
    known = [key for key in inspect.signature(attack).parameters if key != "problem"]
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"attack '{name}' has no option '{unknown[0]}'; it has {', '.join(known)}")
    return attack


def default_options(name: str) -> dict[str, Any]:
    """Return the options of an attack that have a default, and it.

    Raises:
        ValueError: An unknown name.

    >>> default_options("square")["queries"]
    5000
    """
    parameters = inspect.signature(ATTACKS.get(name)).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not one.empty and one.name != "generator"}
