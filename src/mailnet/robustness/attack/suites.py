"""Suites: which attacks are put to a network, one after the other, and which networks each suite is honest for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mailnet.attacks import default_options, list_attacks
from mailnet.attacks.randomness import NoiseUse


@dataclass(frozen=True)
class Member:
    """One attack of a suite.

    Args:
        attack: Its name in ``mailnet.attacks``.
        options: Its options.
        draws: Of a random network, how many draws are averaged; None as the suite was told, else at most so many.
        source: Whose gradients are followed: ``sample`` the network as it is; ``off`` or ``frozen`` the network with
            its noise off or with one draw fixed, from which the points are carried over to the network as it is.
    """

    attack: str
    options: Mapping[str, Any] = field(default_factory=dict)
    draws: int | None = None
    source: NoiseUse = "sample"

    @property
    def name(self) -> str:
        """The attack's name, and where it comes from another network, from which."""
        return self.attack if self.source == "sample" else f"{self.attack} from noise {self.source}"

    def work(self, draws: int, classes: int) -> int:
        """Return about how many forward passes a study takes that stands to the end; a gradient counts as two more.

        Args:
            draws: That each gradient of a random network averages, 1 of others.
            classes: Of the task.
        """
        targets = min(int(self.options.get("targets", 9)), max(classes - 1, 1)) if self.attack.endswith("_t") else 1
        options = {**default_options(self.attack), **self.options}
        once = int(options["queries"]) if "queries" in options else 3 * targets * int(options.get("steps", 1))
        return once * (1 if self.source != "sample" else min(draws, self.draws or draws))


@dataclass(frozen=True)
class Suite:
    """Attacks that are run one after the other on what still stands.

    Args:
        name: See ``get_suite``.
        members: The attacks, cheap ones first.
        fits: ``random`` or ``deterministic`` networks, or both.
        averages: Whether a random network's draws are averaged as the cosine between their gradients asks for.
        caveat: Why its figures may not be quoted as robustness; None where they may.
        nested: Whether larger radii go on from what smaller ones found, which no attack by itself does.
    """

    name: str
    members: Sequence[Member]
    fits: Sequence[Literal["random", "deterministic"]]
    averages: bool = True
    caveat: str | None = None
    nested: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Return what the card says of the attacks."""
        return {
            "name": self.name,
            "members": [
                {"attack": m.attack, "options": dict(m.options), "draws": m.draws, "source": m.source}
                for m in self.members
            ],
        }

    def refusal(self, random: bool) -> str | None:
        """Return why the suite says nothing of a network, or None where it fits.

        Args:
            random: Whether the network answers two passes differently.
        """
        if random and "random" not in self.fits:
            return (
                f"the suite '{self.name}' follows single draws of a random network, which hides what averaged gradients"
                " find; use 'rand'"
            )
        if not random and "deterministic" not in self.fits:
            return f"the suite '{self.name}' is for random networks, and this one is not; use 'standard'"
        return None


_SUITES: dict[str, Suite] = {
    "standard": Suite(
        "standard",
        [
            Member("apgd_ce", {"steps": 100}),
            Member("apgd_t", {"steps": 100}),
            Member("fab_t", {"steps": 100}),
            Member("square", {"queries": 5000}),
        ],
        ["deterministic"],
    ),
    "rand": Suite(
        "rand",
        [
            # The cheap ones first: what they break needs no averaged gradient.
            Member("mim", {"steps": 20, "early_drop": False}, source="off"),
            Member("mim", {"steps": 20, "early_drop": False}, source="frozen"),
            Member("apgd_ce", {"steps": 100}),
            Member("apgd_dlr", {"steps": 100}),
            Member("square", {"queries": 1000}, draws=20),
        ],
        ["random"],
    ),
    "published": Suite(
        "published",
        [Member("bim", {"steps": 10, "step": 0.25, "early_drop": False}, draws=1)],
        ["random", "deterministic"],
        averages=False,
        caveat="the suite 'published' is the paper's attack, for comparison only: ten steps along single draws",
        nested=False,
    ),
    "quick": Suite(
        "quick",
        [Member("apgd_ce", {"steps": 20}, draws=20), Member("apgd_t", {"steps": 20, "targets": 3}, draws=20)],
        ["random", "deterministic"],
        caveat="the suite 'quick' is for a first look: few steps, and no search that needs no gradient",
    ),
}


def get_suite(name: str) -> Suite:
    """Return a suite: ``standard`` for deterministic networks, ``rand`` for random ones, ``quick`` for a first look at
    either, ``published`` as the paper attacked (10 steps of PGD on a single draw), for comparison only.

    Attacks of one's own choice are named with their options and joined by ``+``:

    >>> [member.attack for member in get_suite("pgd:steps=50,step=0.1+square:queries=500").members]
    ['pgd', 'square']

    Raises:
        ValueError: An unknown name, or an option that the attack has not.

    Sources: Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks", ICML 2020, for ``standard`` and ``rand``; Dhar, Haghighat, Zaidi, KDD 2026, for ``published``.
    """
    if name in _SUITES:
        return _SUITES[name]
    members = [_read_member(text) for text in name.split("+")]
    if any(member is None for member in members):
        raise ValueError(
            f"unknown suite '{name}'; there are {', '.join(_SUITES)}, and attacks joined by '+', as pgd:steps=50+square"
        )
    caveat = f"'{name}' is a choice of attacks of one's own, not a whole suite"
    return Suite(name, [member for member in members if member], ["random", "deterministic"], caveat=caveat)


def _read_member(text: str) -> Member | None:
    """Return the attack of ``NAME:option=value,option=value``, None where there is none of that name."""
    name, _, given = text.partition(":")
    if name not in list_attacks():
        return None
    options, known = {}, default_options(name)
    for part in filter(None, given.split(",")):
        key, _, value = part.partition("=")
        if key not in known:
            raise ValueError(f"attack '{name}' has no option '{key}'; it has {', '.join(known)}")
        try:
            options[key] = json.loads(value)
        except ValueError:
            raise ValueError(f"'{part}' gives no number, true or false; write it as pgd:steps=50,step=0.1") from None
    return Member(name, options)
