"""What is searched: keys of ``train`` and ``model`` with the values that they may take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from mailnet.data.config import Section, StudyConfig
from mailnet.errors import ConfigError
from mailnet.nn.registry import default_options

if TYPE_CHECKING:
    from optuna.trial import Trial

# The data are read once, so that nothing about them can be searched.
SEARCHED = ("train.", "model.")


class Choice(Section):
    """Values that a key may take: those of ``choose``, or numbers from ``low`` to ``high``, whole ones if both are.

    With ``log`` each factor is as likely as any other, which fits learning rates.
    """

    choose: list[str | bool | int | float | None] | None = Field(None, min_length=2)
    low: int | float | None = None
    high: int | float | None = None
    log: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Choice:
        if (self.choose is None) == (self.low is None or self.high is None):
            raise ValueError("says neither 'choose' nor 'low' and 'high', or both")
        if self.low is not None and self.high is not None:
            if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
                raise ValueError("'low' must be below 'high'")
            if self.log and self.low <= 0:
                raise ValueError("'low' must be above 0 for 'log'")
        return self

    def suggest(self, trial: Trial, key: str) -> Any:
        """Return the value of a trial."""
        if self.choose is not None:
            return trial.suggest_categorical(key, self.choose)
        assert self.low is not None
        assert self.high is not None
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(key, self.low, self.high, log=self.log)
        return trial.suggest_float(key, self.low, self.high, log=self.log)


Space = dict[str, Choice]
_SPACE: TypeAdapter[Space] = TypeAdapter(dict[str, Choice])


def default_space(config: StudyConfig) -> Space:
    """Return what is searched by default: the optimiser, and width and dropout of networks that have them."""
    space = {
        "train.learning_rate": Choice(low=3e-4, high=5e-3, log=True),
        "train.weight_decay": Choice(low=0.005, high=0.2, log=True),
        "train.label_smoothing": Choice(low=0.0, high=0.15),
    }
    options = default_options(config.model.name)
    if "width" in options and "widths" not in config.model.options:
        space["model.options.width"] = Choice(choose=["nano", "tiny", "small"])
    if "dropout" in options:
        space["model.options.dropout"] = Choice(low=0.0, high=0.4)
    return space


def read_space(path: str | Path) -> Space:
    """Read a YAML file of key -> ``choose`` or ``low``, ``high`` and ``log``.

    Raises:
        ConfigError: The file is missing or no YAML, a key is not of ``train`` or ``model``, or a choice is wrong.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read ({error})", file=path, remedy="Check the file") from error
    if not isinstance(values, Mapping) or not values:
        raise ConfigError(
            "names no key to search", file=path, remedy="For example train.learning_rate: {low: 1e-4, ...}"
        )
    for key in values:
        if not str(key).startswith(SEARCHED):
            raise ConfigError(f"'{key}' cannot be searched", file=path, remedy="Name keys of 'train' and 'model'")
    try:
        return _SPACE.validate_python(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where, what = ".".join(str(part) for part in first["loc"]), first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"'{where}': {what}", file=path, remedy="Mend the key named") from None
