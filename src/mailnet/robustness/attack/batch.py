"""One batch of studies put through all cells: each goes on from the points of those before it that it allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mailnet.attacks import Objective, Problem, Threat
from mailnet.attacks.layout import Precision
from mailnet.attacks.objective import correct, labelled
from mailnet.data.progress import Advance
from mailnet.nn.batch import Batch
from mailnet.nn.heads import probabilities
from mailnet.robustness.attack.cells import Cell
from mailnet.robustness.attack.run_suite import Progress, run_suite, standing_share
from mailnet.robustness.attack.score import WAYS, score
from mailnet.robustness.attack.state import State
from mailnet.robustness.attack.suites import get_suite
from mailnet.robustness.attack.threats import Box
from mailnet.specs import TaskSpec
from mailnet.training.device import seed_of

EXAMPLES = 4  # kept of each task


@dataclass(frozen=True)
class Attacker:
    """What all batches share.

    Args:
        model: The network, in evaluation mode.
        tasks: Its tasks.
        cells: The attackers, each after those it goes on from.
        boxes: Of tables, on the network's device.
        repeats: Fresh draws by which a random network is scored.
        seed: Of everything.
        straight_through: Whether gradients pass through clips, see ``Problem``.
        precision: Of the search, see ``Problem``; what it finds is judged in full precision.
    """

    model: nn.Module
    tasks: Mapping[str, TaskSpec]
    cells: Sequence[Cell]
    boxes: Mapping[str, Box]
    repeats: int
    seed: int
    straight_through: bool = False
    precision: Precision = "fp32"

    def problem(self, batch: Batch, cell: Cell, eps: Mapping[str, float] | None = None) -> Problem:
        """Return studies as a cell's attacker meets them; with radii in place of the cell's."""
        eps = cell.eps if eps is None else eps
        threat = Threat(cell.norm, eps, {name: box for name, box in self.boxes.items() if name in eps})
        sure = cell.noise == "sample"
        problem = Problem(self.model, batch, threat, Objective(tasks=cell.tasks), draws=cell.draws,
                          noise=cell.noise or "sample", sure=sure, straight_through=self.straight_through)  # fmt: skip
        # With a single draw the problem does not look for random numbers from elsewhere than a source of ours.
        problem.random |= sure
        return problem


def attack_batch(attacker: Attacker, number: int, batch: Batch, state: State, advance: Advance) -> dict[str, Tensor]:
    """Attack the studies of a batch, all of which have the same modalities.

    Args:
        attacker: See there.
        number: Of the batch.
        batch: B studies, on the network's device.
        state: Where progress is kept, and where it is gone on from.
        advance: Called after each attack with its work on the whole batch, so that all cells together make up theirs.

    Returns:
        By cell k: ``k.rows`` (n,) the positions that have a label of what it attacks, ``k.clean.TASK`` and
        ``k.robust.TASK`` (R, n) whether answers are right, a row a draw, ``k.ways.clean.TASK`` and
        ``k.ways.robust.TASK`` (W - 1, n) the same by the other ways of counting (``WAYS``), ``k.after``
        (members + 1, n), ``k.seconds`` and ``k.passes`` (members,); of an exemplary cell by task also ``k.TASK.shown``
        (e,) positions, ``k.TASK.clean.MODALITY`` and ``k.TASK.attacked.MODALITY`` (e, ...), ``k.TASK.before`` and
        ``k.TASK.after`` (e, K) probabilities.
    """
    found: dict[str, Tensor] = {}
    reached: list[tuple[Cell, Problem, Progress]] = []
    for k, cell in enumerate(attacker.cells):
        known = torch.stack([labelled(attacker.tasks[task], batch.targets[task]) for task in cell.tasks]).any(0)
        rows = known.nonzero()[:, 0]
        works = [len(batch) * work for work in cell.works(attacker.tasks)]
        if not len(rows):
            advance(sum(works), before=True)
            continue
        part = _taken(batch, rows)
        held = any(name in part.inputs for name in cell.eps)
        # What the attacker cannot touch is as right as it is, and is asked in the same way.
        problem = attacker.problem(part, cell, None if held else dict.fromkeys([*part.inputs][:1], 1e-9))
        if held:
            progress = _put_through(attacker, problem, cell, (number, k), reached, state, works, advance)
            reached.append((cell, problem, progress))
        else:
            members = len(works)
            advance(sum(works), before=True)
            chance = standing_share(problem, problem.space.clean, _seeded(attacker, number))
            progress = Progress(problem.space.clean, chance, chance.expand(members + 1, -1), (0.0,) * members,
                                (0,) * members)  # fmt: skip
        scores = {
            name: score(problem, x, repeats=attacker.repeats, generator=_seeded(attacker, number))
            for name, x in (("clean", problem.space.clean), ("robust", progress.x))
        }
        for name, by_task in scores.items():
            for task, shares in by_task.items():
                found[f"{k}.{name}.{task}"] = torch.from_numpy(shares["single"])
                found[f"{k}.ways.{name}.{task}"] = torch.from_numpy(np.concatenate([shares[way] for way in WAYS[1:]]))
        found |= {
            f"{k}.rows": rows,
            f"{k}.after": progress.after,
            f"{k}.seconds": torch.tensor(progress.seconds, dtype=torch.float64),
            f"{k}.passes": torch.tensor(progress.passes, dtype=torch.int64),
        }
        if cell.exemplary and held:
            for task in cell.tasks:
                shown = _examples(attacker, problem, progress, task, rows, number)
                found |= {f"{k}.{task}.{name}": tensor for name, tensor in shown.items()}
    return {name: tensor.cpu() for name, tensor in found.items()}


def _put_through(
    attacker: Attacker,
    problem: Problem,
    cell: Cell,
    place: tuple[int, int],
    reached: Sequence[tuple[Cell, Problem, Progress]],
    state: State,
    works: Sequence[int],
    advance: Advance,
) -> Progress:
    suite = get_suite(cell.suite)
    number, k = place
    kept = state.progress(number, k, problem.space.clean.device)
    start = kept or _inherited(problem, cell, reached)
    # The same seed in every cell: what differs between two cells is the attacker, not his luck.
    steps = run_suite(
        problem.with_precision(attacker.precision), suite, seed=seed_of(attacker.seed, "batch", number), start=start
    )
    progress = next(steps)
    advance(sum(works[: progress.done]), before=True)
    for progress in steps:
        state.keep(number, k, progress)
        advance(works[progress.done - 1])
    return progress


def _inherited(problem: Problem, cell: Cell, reached: Sequence[tuple[Cell, Problem, Progress]]) -> Progress | None:
    """The worst points of the cells that this one goes on from: they are allowed here too."""
    best: Progress | None = None
    space = problem.space
    for other, source, progress in reached:
        if not cell.continues(other):
            continue
        parts = space.split(space.clean) | source.space.split(progress.x)
        x = torch.cat([parts[name].flatten(1) for name in space.names], 1)
        if best is None:
            best = Progress(x, progress.chance, progress.chance[None])
            continue
        worse = progress.chance <= best.chance
        chance = torch.where(worse, progress.chance, best.chance)
        best = Progress(torch.where(worse[:, None], x, best.x), chance, chance[None])
    return best


def _examples(
    attacker: Attacker, problem: Problem, progress: Progress, task: str, rows: Tensor, number: int
) -> dict[str, Tensor]:
    """Studies that were answered rightly and no longer are, of as many classes as there are."""
    asked, spec = problem, problem.tasks[task]
    target = problem.batch.targets[task]
    logits = {}
    for name, x in (("before", problem.space.clean), ("after", progress.x)):
        if problem.random and problem.noise == "sample":
            asked = problem.with_draws(attacker.repeats, generator=_seeded(attacker, number))
        logits[name] = asked.ask(x, gradient=False).logits[task]
    changed = (correct(spec, logits["before"], target) & ~correct(spec, logits["after"], target)).nonzero()[:, 0]
    if not len(changed):
        return {}
    labels = target[changed].cpu().numpy()
    kind = labels if labels.ndim == 1 else np.zeros(len(labels), np.int64)
    turn = np.array([int((kind[:at] == one).sum()) for at, one in enumerate(kind)], np.int64)
    chosen = changed[torch.from_numpy(np.lexsort((kind, turn))[:EXAMPLES]).to(changed.device)]
    space = problem.space.take(chosen)
    attacked = space.split(progress.x[chosen])
    found = {"shown": rows[chosen]}
    for name, part in space.split(space.clean).items():
        found |= {f"clean.{name}": part.contiguous(), f"attacked.{name}": attacked[name].contiguous()}
    return found | {name: probabilities(spec, values[chosen]) for name, values in logits.items()}


def _taken(batch: Batch, rows: Tensor) -> Batch:
    return Batch(
        {name: x[rows] for name, x in batch.inputs.items()},
        {name: here[rows] for name, here in batch.present.items()},
        {name: target[rows] for name, target in batch.targets.items()},
    )


def _seeded(attacker: Attacker, number: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(attacker.seed, "score", number))
