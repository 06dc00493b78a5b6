"""What every part of ``study.yaml`` shares: unknown keys are errors, values do not change after loading."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

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

    >>> read_length("4/255") == 4 / 255
    True
    """
    try:
        number = float(Fraction(value) if isinstance(value, str) else value)
    except (ValueError, TypeError, ZeroDivisionError):
        raise ValueError(f"is no number, nor a fraction such as 4/255: {value!r}") from None
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"must be positive, got {value}")
    return number


# A radius or deviation in units of the images' range: a number, or "4/255" as where images have values of 8 bits.
Length = Annotated[float, BeforeValidator(read_length)]
