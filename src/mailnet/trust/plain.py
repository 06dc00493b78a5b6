"""Plain values, as JSON holds them, read back with a word for everything that is wrong with them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any


def read_fields(values: object, kind: str, names: Iterable[str]) -> dict[str, Any]:
    """Return ``values`` once it is a dict with these keys and no other.

    Raises:
        ValueError: It is not; ``kind`` names it in the message.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{kind}: expected an object, got {type(values).__name__}")
    wanted = set(names)
    missing, unknown = sorted(wanted - set(values)), sorted(map(str, set(values) - wanted))
    if missing or unknown:
        raise ValueError(f"{kind}: fields missing: {missing}, unknown: {unknown}")
    return values


def read_number(value: object, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """Return a finite number within bounds (both count).

    Raises:
        ValueError: It is none; ``name`` names it in the message.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"{name} must be from {low:g} to {high:g}, got {value!r}")
    return float(value)


def read_numbers(values: object, name: str, low: float = -math.inf, high: float = math.inf) -> tuple[float, ...]:
    """Return a list of finite numbers within bounds as a tuple; ValueError where it is none."""
    if not isinstance(values, list | tuple):
        raise ValueError(f"{name} must be a list, got {type(values).__name__}")
    return tuple(read_number(value, name, low, high) for value in values)


def read_count(value: object, name: str) -> int:
    """Return a whole number from 0; ValueError where it is none."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} must be a whole number from 0, got {value!r}")
    return value


def read_choice(value: object, name: str, choices: Iterable[str]) -> str:
    """Return a text that is one of ``choices``; ValueError where it is not."""
    allowed = tuple(choices)
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    return value


def read_text(value: object, name: str) -> str:
    """Return a text; ValueError where it is none."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a text, got {value!r}")
    return value


def read_texts(values: object, name: str) -> tuple[str, ...]:
    """Return a list of texts as a tuple; ValueError where it is none."""
    if not isinstance(values, list | tuple):
        raise ValueError(f"{name} must be a list of texts, got {values!r}")
    return tuple(read_text(value, name) for value in values)


def read_flag(value: object, name: str) -> bool:
    """Return true or false; ValueError where it is neither."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")
    return value
