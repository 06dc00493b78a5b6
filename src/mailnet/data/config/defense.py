"""How a network is made robust in training: ``train.defense``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from mailnet.data.config.base import Section, read_length
from mailnet.data.config.modalities import ModalityConfig

DefenseName: TypeAlias = Literal["pgd_at", "trades", "mart", "free", "fast", "gaussian"]

_RADIUS = 4 / 255
_VALIDATED: dict[str, Any] = {"validation_studies": None}
_ATTACKED: dict[str, Any] = {"norm": "linf", "eps": None, "warmup": 0.0, "validation_steps": 10, "validation_draws": 1}
_ASCENT: dict[str, Any] = _VALIDATED | _ATTACKED | {"step": 0.25, "draws": 1}
# Defence -> the keys that it has beside its name, with their defaults.
PRESETS: dict[DefenseName, dict[str, Any]] = {
    "pgd_at": _ASCENT | {"steps": 10, "awp": None},
    "trades": _ASCENT | {"steps": 10, "awp": None, "beta": 6.0},
    "mart": _ASCENT | {"steps": 10, "awp": None, "beta": 5.0},
    "fast": _ASCENT | {"step": 1.25, "awp": None, "alignment": None},
    "free": _VALIDATED | _ATTACKED | {"step": 1.0, "replays": 4},
    "gaussian": _VALIDATED | {"sigma": 0.25},
}


class DefenseConfig(Section):
    """What a network is trained against; see ``mailnet.training.defense`` for what each does.

    A name alone, as ``defense: pgd_at``, is that defence with its defaults.

    Every defence has keys of its own, with defaults of its own (``PRESETS``); those of others are refused. ``eps`` is
    the radius of the attack in units of [0, 1] and ``sigma`` the deviation of the noise: a number for all images and
    volumes, or modality -> number, where what is left out is not changed. Tables are not attacked. ``step`` is in
    radii. ``warmup`` is the share of the training in which the radius grows from 0. ``validation_steps``,
    ``validation_draws`` and ``validation_studies`` (at most so many; null for all) are of the attack on the validation
    studies that gives the ``robust_`` metrics.
    """

    name: DefenseName
    norm: Literal["linf", "l2", "l1"] | None = None
    eps: float | dict[str, float] | None = None
    sigma: float | dict[str, float] | None = None
    steps: int | None = Field(None, ge=1)
    step: float | None = Field(None, gt=0)
    draws: int | None = Field(None, ge=1)
    beta: float | None = Field(None, gt=0)
    awp: float | None = Field(None, gt=0, lt=1)
    replays: int | None = Field(None, ge=1)
    alignment: float | None = Field(None, gt=0)
    warmup: float | None = Field(None, ge=0, le=1)
    validation_steps: int | None = Field(None, ge=1)
    validation_draws: int | None = Field(None, ge=1)
    validation_studies: int | None = Field(None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        if isinstance(values, str):  # its name alone
            values = {"name": values}
        if not isinstance(values, dict) or values.get("name") not in PRESETS:
            return values
        preset = PRESETS[values["name"]]
        # A null means the default.
        given = {key: value for key, value in values.items() if value is not None}
        for key in given:
            if key not in preset and key != "name" and key in cls.model_fields:
                raise ValueError(f"'{key}' is no key of {values['name']}, which has {', '.join(preset)}")
        filled = preset | given
        if "eps" in preset and filled["eps"] is None and filled["norm"] == "linf":
            filled["eps"] = _RADIUS
        if "draws" in filled and "validation_draws" not in given:
            filled["validation_draws"] = filled["draws"]
        return {**dict.fromkeys(values), **filled}

    @field_validator("eps", "sigma", mode="before")
    @classmethod
    def _lengths(cls, value: Any) -> Any:
        if isinstance(value, dict):
            if not value:
                raise ValueError("names no modality")
            return {name: read_length(one) for name, one in value.items()}
        return None if value is None else read_length(value)

    @model_validator(mode="after")
    def _radius(self) -> DefenseConfig:
        if self.norm is not None and self.eps is None:
            raise ValueError(f"norm {self.norm} needs 'eps', the radius in units of [0, 1]")
        radii = self.eps.values() if isinstance(self.eps, dict) else [self.eps]
        if self.norm == "linf" and any(radius is not None and radius > 1 for radius in radii):
            raise ValueError("'eps' is larger than 1, the range of an image; write 4/255 for 4 of 255 grey values")
        return self

    def lengths(self, modalities: Mapping[str, ModalityConfig]) -> dict[str, float]:
        """Return modality -> ``eps`` or, of noise, ``sigma``, in the order of the modalities.

        Raises:
            ValueError: It names what is no image or volume of the study, or there is none.
        """
        key, given = ("sigma", self.sigma) if self.eps is None else ("eps", self.eps)
        pictures = [name for name, section in modalities.items() if section.kind != "tabular"]
        if not pictures:
            raise ValueError("'train.defense': the study has no image or volume, and tables are not attacked")
        if not isinstance(given, dict):
            assert given is not None
            return dict.fromkeys(pictures, given)
        for name in given:
            if name not in modalities:
                raise ValueError(
                    f"'train.defense.{key}' names no modality with '{name}'; there are {', '.join(pictures)}"
                )
            if name not in pictures:
                raise ValueError(f"'train.defense.{key}' names '{name}', a table; tables are not attacked")
        return {name: given[name] for name in pictures if name in given}
