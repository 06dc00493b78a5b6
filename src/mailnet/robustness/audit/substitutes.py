"""Other images in a study's place: what an attacker who may do anything has at hand without any gradient.

Where a ball holds the whole range, the image of every other study lies in it. An attack that leaves a study which such
an image breaks has failed, whatever kind of network it is; what no image breaks may stand because the network's answer
cannot be changed, or is drowned by its noise, and is not held against the attack.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mailnet.attacks.objective import answers
from mailnet.robustness.audit.bench import Bench, Left
from mailnet.robustness.audit.check import SURE

OF_EACH = 4  # images of each answer
MOST = 32  # images of other studies
FLAT = (0.5, 0.0, 1.0)  # grey, black, white
SURE_DRAWS = 20  # of a random network, by which its answer to an image is known


def with_substitutes(bench: Bench, factor: float, left: Left) -> Left:
    """Return what stands where each study that an attack left may also be replaced by other images, as far as allowed.

    Which point of a study is the worst is chosen by other draws than those by which it is scored, so that of a random
    network luck in one draw is worth nothing.

    Args:
        bench: The studies.
        factor: The radius, as a multiple of the threat's.
        left: What an attack left at that radius.
    """
    if not bool((left.share > SURE).any()):
        return left
    problem = bench.at(factor)
    x = left.x.clone()
    best = bench.score(problem, x, "substitutes")
    for images in candidates(bench):
        rows = ((left.share > SURE) & (best > 0)).nonzero()[:, 0]
        if not len(rows):
            break
        part = problem.take(rows)
        tried = part.space.project(images.expand(len(problem), -1)[rows])
        share = bench.score(part, tried, "substitutes")
        better = share < best[rows]
        x[rows[better]], best[rows[better]] = tried[better], share[better]
    return Left(x, bench.score(problem, x))


def candidates(bench: Bench) -> list[Tensor]:
    """Return what is put into a study's place, the likeliest first.

    Returns:
        (1, D) images of studies, some of each answer, those that have all modalities first; (B, D) flat ones.
    """
    offered, kept = bench.offered, []
    complete = torch.stack([offered.batch.present[name] for name in offered.space.names]).sum(0)
    order = torch.argsort(complete, descending=True, stable=True)
    _, kind = torch.unique(_answers(bench), dim=0, return_inverse=True)
    for turn in range(OF_EACH):
        for one in range(int(kind.max()) + 1):
            own = order[kind[order] == one]
            if turn < len(own):
                kept.append(offered.space.clean[own[turn]][None])
    space = bench.problem.space
    return [*kept[:MOST], *(space.low + level * (space.high - space.low) for level in FLAT)]


def _answers(bench: Bench) -> Tensor:
    """(N, K) the answers to all studies that were offered, of all tasks that are attacked."""
    problem = bench.offered
    if bench.random:
        problem = problem.with_draws(SURE_DRAWS, generator=bench.generator("answers"))
    names = problem.objective.attacked(problem.tasks)
    found = [part.ask(part.space.clean, gradient=False).logits for part in bench.chunks(problem)]
    given = [torch.cat([answers(problem.tasks[name], one[name]) for one in found]) for name in names]
    return torch.cat([each.reshape(len(each), -1).long() for each in given], 1)
