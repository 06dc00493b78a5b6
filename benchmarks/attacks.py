"""How fast and how strong ours are beside foolbox, torchattacks and ART, and beside our own without early drop.

    python benchmarks/attacks.py GOLDEN [--images 100] [--repeats 3] [--steps 100] [--classes 7]
        [--queries 1000] [--json OUT]

GOLDEN is attack_oracle.npz. All ways of a case attack the same images of one network in one run, one after the other,
each repeat in the opposite order. Times are medians of the processor's seconds, on one thread. ``rate`` is images times
the steps that the attack is allowed, a second, so that the ways of a case compare by their times; ``times`` is the time
in times of ours. ``bf16`` is ours with ``precision="bf16"``, judged in full precision. The suite is APGD by
cross-entropy, APGD and FAB towards the likeliest wrong classes, and Square, one after the other on what stands; ART has
a suite of its own, without FAB and without wrong classes to aim at. Radii are the recorded one and twice that, at which
fewer images stand. The last cases are a ``mail`` network of two images, trained here for some seconds on halves of
digits, which no other library attacks.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import attack_peers
import oracle
import torch
from attack_peers import Budget
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional

from mailnet.attacks import Objective, Problem, Threat, get_attack
from mailnet.cli.output import print_table
from mailnet.files import write_json
from mailnet.nn import create_model
from mailnet.nn.batch import Batch

Way = Callable[[Problem], Tensor]


class Unbreakable(Objective):
    """Nothing counts as broken, so that no attack ends early."""

    def broken(self, tasks: Any, logits: Any, targets: Any) -> Tensor:
        return torch.zeros_like(super().broken(tasks, logits, targets))

    def take(self, rows: Tensor) -> Objective:
        return Unbreakable(self.loss, self.tasks)


@dataclass(frozen=True)
class Case:
    """One attack by several ways on the same studies; ``steps`` are those that it is allowed."""

    name: str
    problem: Problem
    steps: int
    ways: dict[str, Way]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def pgd(problem: Problem, early_drop: bool = True) -> Tensor:
    return get_attack("pgd")(problem, steps=10, step=0.25, early_drop=early_drop, generator=seeded())


def suite(budget: Budget, early_drop: bool = True) -> Way:
    """The standard suite on what stands, or all attacks to their end on all studies."""
    members: list[tuple[str, dict[str, Any]]] = [
        ("apgd_ce", {"steps": budget.steps}),
        ("apgd_t", {"steps": budget.steps, "targets": budget.classes}),
        ("fab_t", {"steps": budget.steps, "targets": budget.classes, "early_drop": early_drop}),
        ("square", {"queries": budget.queries}),
    ]

    def run(problem: Problem) -> Tensor:
        found = problem.space.clean.clone()
        rows = torch.arange(len(problem))
        for name, options in members:
            part = problem.take(rows)
            if not early_drop and name != "fab_t":  # which needs to know what it found
                part = part.with_objective(Unbreakable())
            x = get_attack(name)(part, generator=seeded(), **options)
            broken = problem.take(rows).with_precision("fp32").ask(x, gradient=False).broken
            found[rows[broken]] = x[broken]
            if early_drop:
                rows = rows[~broken]
            if not len(rows):
                break
        return found

    return run


def low(way: Way) -> Way:
    """The same, searching in bfloat16."""
    return lambda problem: way(problem.with_precision("bf16"))


def steps_of(budget: Budget) -> int:
    return budget.steps * (1 + 2 * budget.classes) + budget.queries


def peer(library: str) -> Way:
    return lambda problem: attack_peers.peers("pgd", problem.space.threat.norm)[library](
        attack_peers.View(problem), Budget(steps=10)
    )


def torchattacks_suite(budget: Budget) -> Way:
    """Its parts of AutoAttack with as many steps as ours: its own AutoAttack takes 10."""

    def run(problem: Problem) -> Tensor:
        import torchattacks

        view = attack_peers.View(problem)
        common = {"norm": {"linf": "Linf", "l2": "L2"}[view.norm], "eps": view.eps, "seed": 0}
        steps, classes = {"steps": budget.steps}, {"n_classes": budget.classes + 1}
        attacks = [
            torchattacks.APGD(view.net, **common, **steps),
            torchattacks.APGDT(view.net, **common, **steps, **classes),
            torchattacks.FAB(view.net, **common, **steps, **classes, multi_targeted=True),
            torchattacks.Square(view.net, **common, n_queries=budget.queries),
        ]
        found: Tensor = torchattacks.MultiAttack(attacks)(view.images, view.labels)
        return found

    return run


def art_suite(budget: Budget) -> Way:
    """Its AutoAttack: APGD by both losses, DeepFool and Square."""

    def run(problem: Problem) -> Tensor:
        from art.attacks.evasion import AutoAttack, AutoProjectedGradientDescent, DeepFool, SquareAttack

        view = attack_peers.View(problem)
        classifier, count = view.art(), len(view.images)
        norm = attack_peers.art_norm(view)
        common = {"eps_step": 2 * view.eps, "batch_size": count, "verbose": False}
        losses = ("cross_entropy", "difference_logits_ratio")
        attacks = [
            AutoProjectedGradientDescent(
                classifier, **norm, **common, max_iter=budget.steps, nb_random_init=1, loss_type=loss
            )
            for loss in losses
        ]
        attacks += [
            DeepFool(classifier, max_iter=budget.steps, epsilon=1e-3, batch_size=count, verbose=False),
            SquareAttack(classifier, **norm, max_iter=budget.queries, batch_size=count, verbose=False),
        ]
        whole = AutoAttack(classifier, **norm, eps_step=2 * view.eps, attacks=attacks, batch_size=count)
        return torch.from_numpy(whole.generate(view.images.numpy(), view.labels.numpy()))

    return run


def of_one_image(golden: Path, images: int, budget: Budget) -> list[Case]:
    """PGD-10 and the suite at the recorded radius and at twice of it."""
    arrays = oracle.read(golden)
    rows = arrays["clean.correct"].nonzero()[0][:images]
    cases = []
    for factor in (1, 2):
        recorded = oracle.problem(arrays, "linf", rows)
        eps = float(recorded.space.radius[0, 0]) * factor
        problem = Problem(recorded.model, recorded.batch, Threat("linf", {"image": eps}))
        where = f"linf {round(255 * eps)}/255"
        libraries = {name: peer(name) for name in ("torchattacks", "foolbox", "art")}
        plain: Way = lambda problem: pgd(problem, early_drop=False)  # noqa: E731
        cases.append(
            Case(f"PGD-10, {where}", problem, 10, {"ours": pgd, "bf16": low(pgd), "no early drop": plain, **libraries})
        )
        ways = {"ours": suite(budget), "bf16": low(suite(budget)), "no early drop": suite(budget, early_drop=False)}
        ways |= {"torchattacks": torchattacks_suite(budget), "art": art_suite(budget)}
        cases.append(Case(f"suite, {where}", problem, steps_of(budget), ways))
    return cases


def of_two_images(images: int, budget: Budget) -> list[Case]:
    """PGD-10 and the suite on ``mail``, the upper and the lower half of a digit each an image."""
    pixels, values = load_digits(return_X_y=True)
    digits, labels = torch.from_numpy(pixels).float().view(-1, 1, 8, 8) / 16, torch.from_numpy(values).long()
    halves = {"upper": digits[:, :, :4], "lower": digits[:, :, 4:]}
    inputs = {name: functional.interpolate(half, (16, 16)) for name, half in halves.items()}
    torch.manual_seed(0)
    model = create_model("mail", modalities={"upper": 1, "lower": 1}, tasks={"value": 10}, width="nano")
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(8):
        for rows in torch.randperm(1400).split(50):
            noisy = {name: (x[rows] + 0.1 * torch.randn_like(x[rows])).clamp(0, 1) for name, x in inputs.items()}
            optimizer.zero_grad()
            functional.cross_entropy(model(noisy)["value"], labels[rows]).backward()
            optimizer.step()
    model.eval().requires_grad_(False)
    rows = torch.arange(1400, len(digits))
    rows = rows[model({name: x[rows] for name, x in inputs.items()})["value"].argmax(1) == labels[rows]][:images]
    here = torch.ones(len(rows), dtype=torch.bool)
    batch = Batch({name: x[rows] for name, x in inputs.items()}, dict.fromkeys(inputs, here), {"value": labels[rows]})
    problem = Problem(model, batch, Threat("linf", {"upper": 4 / 255, "lower": 8 / 255}))
    plain: Way = lambda problem: pgd(problem, early_drop=False)  # noqa: E731
    name = "two images, mail, linf 4/255 and 8/255"
    whole = {"ours": suite(budget), "bf16": low(suite(budget)), "no early drop": suite(budget, early_drop=False)}
    return [
        Case(f"PGD-10, {name}", problem, 10, {"ours": pgd, "bf16": low(pgd), "no early drop": plain}),
        Case(f"suite, {name}", problem, steps_of(budget), whole),
    ]


def measure(case: Case, repeats: int) -> list[dict[str, Any]]:
    """Return a row for each way: median seconds, rate, share left correct and passes a study."""
    seconds: dict[str, list[float]] = {name: [] for name in case.ways}
    left: dict[str, float] = {}
    for repeat in range(repeats):
        for name in list(case.ways)[:: -1 if repeat % 2 else 1]:
            start = time.process_time()
            x = case.ways[name](case.problem).reshape(len(case.problem), -1)
            seconds[name].append(time.process_time() - start)
            space = case.problem.space
            allowed = (space.norms(x - space.clean) <= space.radius * (1 + 1e-3)).all(1)
            left[name] = float((~(allowed & case.problem.ask(x, gradient=False).broken)).float().mean())
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return [
        {
            "case": case.name,
            "way": name,
            "seconds": median,
            "rate": len(case.problem) * case.steps / median,
            "times": median / medians["ours"],
            "left": left[name],
        }
        for name, median in medians.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("golden", type=Path, help="attack_oracle.npz")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100, help="of APGD and FAB")
    parser.add_argument("--classes", type=int, default=7, help="that APGD and FAB aim at")
    parser.add_argument("--queries", type=int, default=1000, help="of Square")
    parser.add_argument("--json", type=Path, help="where the figures are written to")
    options = parser.parse_args()
    torch.set_num_threads(1)
    budget = Budget(steps=options.steps, classes=options.classes, queries=options.queries)
    cases = of_one_image(options.golden, options.images, budget) + of_two_images(options.images, budget)
    rows = []
    for case in cases:
        found = measure(case, options.repeats)
        rows += found
        shown = [
            [row["way"], f"{row['seconds']:.2f}", f"{row['rate']:.0f}", f"{row['times']:.2f}", f"{row['left']:.1%}"]
            for row in found
        ]
        # At once: a case may take minutes.
        print_table(case.name, ["way", "seconds", "rate", "times", "left correct"], shown)
    if options.json:
        write_json(options.json, {"options": {**vars(options), "golden": None, "json": None}, "rows": rows})


if __name__ == "__main__":
    main()
