"""Attacks by name. An attack is a function of a problem that returns rows of its space, (B, D)."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

Attack = Callable[..., Tensor]
A = TypeVar("A", bound=Attack)

_ATTACKS: dict[str, Attack] = {}
# Modules that register attacks when imported.
_MODULES: dict[str, str] = {
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
}


def register_attack(name: str) -> Callable[[A], A]:
    """Register an attack ``f(problem, *, generator=None, **options) -> rows (B, D)`` under a name.

    Raises:
        ValueError: The name is taken.
    """

    def decorate(attack: A) -> A:
        if _ATTACKS.get(name, attack) is not attack:
            raise ValueError(f"an attack named '{name}' is registered already")
        _ATTACKS[name] = attack
        return attack

    return decorate


def list_attacks() -> list[str]:
    """Return the names that ``get_attack`` knows.

    >>> "pgd" in list_attacks()
    True
    """
    return sorted({*_MODULES, *_ATTACKS})


def get_attack(name: str, **options: Any) -> Attack:
    """Return an attack of that name, its options checked.

    Raises:
        ValueError: An unknown name or option.
    """
    if name in _MODULES:
        importlib.import_module(_MODULES[name])
    if name not in _ATTACKS:
        raise ValueError(f"unknown attack '{name}'; there are {', '.join(list_attacks())}")
    attack = _ATTACKS[name]
    known = [key for key in inspect.signature(attack).parameters if key != "problem"]
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"attack '{name}' has no option '{unknown[0]}'; it has {', '.join(known)}")
    return attack
