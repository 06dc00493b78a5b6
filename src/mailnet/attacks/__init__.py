"""Attacks on networks with several inputs and tasks: functions on a network, inputs and labels."""

from mailnet.attacks.clips import straight_through
from mailnet.attacks.objective import Objective
from mailnet.attacks.problem import Problem
from mailnet.attacks.randomness import is_random
from mailnet.attacks.registry import default_options, get_attack, list_attacks, register_attack
from mailnet.attacks.threat import Threat

__all__ = [
    "Objective",
    "Problem",
    "Threat",
    "default_options",
    "get_attack",
    "is_random",
    "list_attacks",
    "register_attack",
    "straight_through",
]
