"""What an export may be asked for, and what is refused in the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal, TypeAlias, get_args

from mailnet.errors import ConfigError
from mailnet.nn.noise import NOISE_MODES

Format: TypeAlias = Literal["onnx", "torch"]
Precision: TypeAlias = Literal["fp32", "int8", "bf16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
FORMATS: tuple[str, ...] = get_args(Format)
ALLOWED_LOSS = 0.005  # of balanced accuracy, of an int8 model


def chosen_of(kind: str, precisions: Sequence[str], noise: str | None) -> list[str]:
    """Return the precisions in the order of the table, each once; refuse what there is not."""
    for value, values, what in ((kind, FORMATS, "format"), *((one, PRECISIONS, "precision") for one in precisions)):
        if value not in values:
            raise ConfigError(f"'{value}' is no {what}", remedy=f"Choose {', '.join(values)}")
    if noise is not None and noise not in NOISE_MODES:
        raise ConfigError(f"'{noise}' is no noise mode", remedy=f"Choose {', '.join(NOISE_MODES)}")
    if kind == "torch" and "int8" in precisions:
        raise ConfigError("int8 is made for onnxruntime only", remedy="Give --format onnx, or --precision bf16")
    needed = ("onnx", "onnxscript", "onnxruntime") if kind == "onnx" else ()
    if missing := [name for name in needed if find_spec(name) is None]:
        raise ConfigError(f"{missing[0]} is not installed", remedy="pip install 'mailnet[export]'")
    return [name for name in PRECISIONS if name in precisions]


def refusal_of(table: Sequence[Mapping[str, Any]]) -> str | None:
    """Return why the int8 model of a table is not written unless its loss is accepted, None where it is."""
    row = next((row for row in table if row["model"] == "int8"), None)
    if row is None:
        return None
    if row["loss"] is None:
        return f"what int8 loses is not known, since the {row['split']} studies have no labels"
    if row["loss"] <= ALLOWED_LOSS:
        return None
    return (
        f"int8 loses {100 * row['loss']:.2f} points of balanced accuracy on the {row['split']} studies, more than "
        f"{100 * ALLOWED_LOSS:g}"
    )
