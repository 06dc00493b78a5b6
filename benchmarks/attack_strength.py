"""How many studies each attack breaks beside those of foolbox, torchattacks and ART of the same name and budget.

    python benchmarks/attack_strength.py [--attack pgd mim ...] [--studies 200] [--seeds 2] [--steps 30] [--queries 300]
        [--classes 9] [--json OUT]

All attack digits that a small network, trained here within seconds, reads rightly: in ``linf`` within 0.12, in ``l2``
within 0.6. The table holds how many are still read rightly, the mean over seeds.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from pathlib import Path
from typing import Any

import torch
from attack_peers import Budget, View, compared, options, peers
from digits_network import digits_problem
from torch import Tensor

from mailnet.attacks import Problem, get_attack
from mailnet.cli.output import print_table
from mailnet.files import write_json

LIBRARIES = ("torchattacks", "foolbox", "art")


def left(problem: Problem, x: Tensor) -> int:
    """Return how many studies points leave as they are; a point outside the ball breaks nothing."""
    rows, space = x.reshape(len(problem), -1), problem.space
    allowed = (space.norms(rows - space.clean) <= space.radius * (1 + 1e-3)).all(1)
    return int((~(allowed & problem.ask(rows, gradient=False).broken)).sum())


def row(attack: str, norm: Any, studies: int, budgets: list[Budget]) -> dict[str, Any]:
    """Return what every library leaves."""
    problem = digits_problem(norm, studies)
    eps = float(problem.space.radius[0, 0])
    ours = []
    for budget in budgets:
        generator = torch.Generator().manual_seed(budget.seed)
        ours.append(
            left(problem, get_attack(attack)(problem, generator=generator, **options(attack, norm, eps, budget)))
        )
    theirs = {
        name: statistics.mean(left(problem, peer(View(problem), budget)) for budget in budgets)
        for name, peer in peers(attack, norm).items()
    }
    return {"attack": attack, "norm": norm, "ours": statistics.mean(ours), **theirs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attack", nargs="+", choices=sorted({attack for attack, _ in compared()}))
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--classes", type=int, default=9)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    spend = {"steps": given.steps, "queries": given.queries, "classes": given.classes}
    budgets = [Budget(**spend, seed=seed) for seed in range(given.seeds)]
    rows = [
        row(attack, norm, given.studies, budgets)
        for attack, norm in compared()
        if given.attack is None or attack in given.attack
    ]
    heads = ["attack", "norm", "ours", *LIBRARIES]
    shown = [
        [f"{one[head]:g}" if isinstance(one.get(head), int | float) else one.get(head, "") for head in heads]
        for one in rows
    ]
    print_table(f"Of {given.studies} studies left as they are", heads, shown)
    if given.json:
        write_json(given.json, {"studies": given.studies, "seeds": given.seeds, **spend, "rows": rows})


if __name__ == "__main__":
    main()
