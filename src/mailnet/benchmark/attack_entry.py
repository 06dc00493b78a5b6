"""An attack of ``suite.yaml``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from mailnet.attacks.layout import Precision
from mailnet.attacks.threat import Norm
from mailnet.data.config import Section
from mailnet.data.config.base import read_length


def _read_radii(value: Any) -> Any:
    if not isinstance(value, dict):
        return read_length(value)
    if not value:
        raise ValueError("names no modality")
    return {str(name): read_length(radius) for name, radius in value.items()}


Radii = Annotated[float | dict[str, float], BeforeValidator(_read_radii)]


class AttackEntry(Section):
    """An attack on the test studies of every trained network, see ``mailnet.robustness.attack.measure``.

    ``suite`` null is the one that fits the network. ``eps`` are radii of all images and volumes at once, such as
    4/255, or mappings of modality to radius, where the attacker holds only those that are named.
    ``networks`` and ``studies`` name the only ones that it is made on, ``at_most`` so many test studies, drawn
    at random and the same for all networks.
    """

    suite: str | None = None
    norm: Norm = "linf"
    eps: list[Radii] = Field(min_length=1)
    at_most: int | None = Field(None, ge=1)
    networks: list[str] | None = None
    studies: list[str] | None = None
    max_draws: int = Field(50, ge=1)
    repeats: int = Field(20, ge=1)
    modes: bool = False
    precision: Precision = "fp32"
    audit: bool = False

    def meets(self, study: str, network: str) -> bool:
        """Whether it is made on a network trained on a study."""
        return (self.networks is None or network in self.networks) and (self.studies is None or study in self.studies)

    def settings(self) -> dict[str, Any]:
        """Return what of it a network's results depend on, by which recorded ones are known again."""
        values = self.model_dump(exclude={"networks", "studies"})  # which others meet it changes nothing
        if self.precision == "fp32":  # as before there was a choice, so that what was recorded then still counts
            del values["precision"]
        return values
