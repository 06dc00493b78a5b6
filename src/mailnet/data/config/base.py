"""What every part of ``study.yaml`` shares: unknown keys are errors, values do not change after loading."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from fractions import Fraction
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Scalar = str | int | float | bool
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


class Section(BaseModel):
    """A part of the file: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_length(value: Any) -> float:
    """Return a positive number that may be written as a fraction.

    Raises:
        ValueError: It is none.

    >>> read_length("4/255") == 4 / 255, read_length("0.5/255") == 0.5 / 255
    (True, True)
    """
    try:
        if isinstance(value, str):
            above, slash, below = value.partition("/")
            number = float(Fraction(above) / (Fraction(below) if slash else 1))
        else:
            number = float(value)
    except (ValueError, TypeError, ZeroDivisionError, OverflowError):
        raise ValueError(f"is no number, nor a fraction such as 4/255: {value!r}") from None
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"must be positive, got {value}")
    return number


def radius_text(radii: Mapping[str, float], norm: str, tables: Collection[str] = ()) -> str:
    """Return radii as text, in 255ths where the norm counts single values; those of tables as they are.

    >>> radius_text({"ct": 4 / 255, "mri": 4 / 255}, "linf"), radius_text({"ct": 0.5, "mri": 1.0}, "l2")
    ('4/255', 'ct 0.5, mri 1')
    >>> radius_text({"ct": 0.5 / 255, "clinic": 0.1}, "linf", ["clinic"])
    'ct 0.5/255, clinic 0.1'
    """
    texts = {
        name: f"{255 * radius:.3g}/255" if norm == "linf" and name not in tables else f"{radius:.4g}"
        for name, radius in radii.items()
    }
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return ", ".join(f"{name} {text}" for name, text in texts.items())
