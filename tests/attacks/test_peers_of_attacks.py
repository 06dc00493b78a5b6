"""Ours beside the attacks of foolbox, torchattacks and ART on one network: as many broken studies for as much work."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mailnet.attacks.threat import Norm

WITHIN = 0.01  # of the studies
STUDIES, SEEDS = 100, 2
# Fewer where an attack is slow: studies, seeds, and what may be spent on each.
FEWER: dict[str, tuple[int, int, dict[str, int]]] = {
    "uniform_noise": (200, 3, {"queries": 20}),
    "deepfool": (60, 1, {"steps": 10}),
    "cw": (30, 1, {"steps": 30}),
    "apgd_ce": (300, 3, {"steps": 15}),
    "apgd_dlr": (300, 3, {"steps": 15}),
    "apgd_t": (100, 1, {"steps": 15, "classes": 2}),
    "fab": (100, 1, {"steps": 10}),
    "fab_t": (100, 1, {"steps": 10, "classes": 2}),
    "square": (100, 2, {"queries": 60}),
    "hop_skip_jump": (20, 1, {"queries": 400}),
}


def benchmark(name: str) -> ModuleType:
    """A module of the benchmarks, which are no package."""
    folder = str(Path(__file__).resolve().parents[2] / "benchmarks")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(name)


library, strength = benchmark("attack_peers"), benchmark("attack_strength")


@pytest.mark.parametrize(("attack", "norm"), library.compared())
def test_ours_break_as_many_as_theirs(attack: str, norm: Norm) -> None:
    studies, seeds, spend = FEWER.get(attack, (STUDIES, SEEDS, {}))
    budgets = [library.Budget(**spend, seed=seed) for seed in range(seeds)]
    found = strength.row(attack, norm, studies, budgets)
    assert library.peers(attack, norm)
    for name in library.peers(attack, norm):
        assert found["ours"] <= found[name] + WITHIN * studies, f"{name}: {found[name]}, ours: {found['ours']}"
    assert found["ours"] < studies
