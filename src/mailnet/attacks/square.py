"""The Square attack: a random search that changes one square at a time and keeps what brings the loss up.

It needs no gradient, so it sees through what hides one.

Source: Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack via random search", ECCV
2020.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mailnet.attacks.objective import Loss
from mailnet.attacks.pieces import Held, change, start
from mailnet.attacks.problem import Problem
from mailnet.attacks.registry import register_attack
from mailnet.attacks.threat import Space

# Questions, of so many, after which squares cover half as much.
SCHEDULE = 10_000
HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@register_attack("square")
def square(
    problem: Problem,
    *,
    queries: int = 5000,
    share: float = 0.8,
    loss: Loss = "hinge",
    rescale: bool | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Search at random by squares of falling size; return rows (B, D).

    Volumes are changed by cubes. A table is changed by as large a share of its columns, drawn at random and one at
    least (in ``l2`` and ``l1`` two, between which the change moves); columns that their box holds stay. A question
    changes one modality: which is drawn in proportion to the number of squares, or groups of columns, that it
    consists of just then, so that each of them has the same chance however many modalities there are.

    Args:
        problem: The studies. Of a random network the loss is its mean over draws.
        queries: Questions about a study, the first of which is about the start: stripes, or a grid of bumps.
        share: Of a modality, that the first squares cover.
        loss: What is brought up, instead of the problem's loss: by default the margin of the tasks that are not broken
            yet.
        rescale: Whether squares shrink after the published numbers of questions in proportion to ``queries``, as in the
            paper, or after these numbers, as in AutoAttack; None for what breaks more when there are few: in ``linf``
            the former, else the latter.
        generator: Of the squares.

    Returns:
        A point that breaks the study where one was found, else the one of the largest loss; studies that are broken as
        they are come back as they are.

    Raises:
        ValueError: No query, or a share outside (0, 1].
    """
    if queries < 1 or not 0 < share <= 1:
        raise ValueError(f"queries must be at least 1 and share in (0, 1], got {queries} and {share}")
    problem = problem.with_objective(replace(problem.objective, loss=loss))
    rescale = problem.space.threat.norm == "linf" if rescale is None else rescale
    found = problem.space.clean.clone()
    rows = problem.standing(problem.ask(found, gradient=False)).nonzero()[:, 0]
    part = problem.take(rows)
    x = part.space.clean
    best = torch.full_like(x[:, 0], -torch.inf)
    for query in range(queries):
        if not len(rows):
            break
        if query == 0:
            tried = _started(part.space, generator)
        else:
            now = share_at(query * SCHEDULE // queries if rescale else query, share)
            tried = _changed(part.space, x, now, generator)
        asked = part.ask(tried, gradient=False)
        better = (asked.loss > best) | asked.broken
        x, best = torch.where(better[:, None], tried, x), torch.where(better, asked.loss, best)
        if bool(asked.broken.any()):
            found[rows[asked.broken]] = x[asked.broken]
            stay = ~asked.broken
            part, rows, x, best = part.take(stay), rows[stay], x[stay], best[stay]
    found[rows] = x
    return found


def share_at(query: int, share: float) -> float:
    """Return the share that a square covers, halved after the published numbers of questions.

    >>> [share_at(query, 0.8) for query in (10, 11, 51)]
    [0.8, 0.4, 0.2]
    """
    return share / 2.0 ** sum(query > at for at in HALVED)


def _modalities(space: Space) -> list[Held]:
    rows = (space.clean, space.low, space.high, space.free)
    parts = zip(space.names, space.radius.T, *(torch.split(side, space.sizes, 1) for side in rows), strict=True)
    return [Held(space.shapes[name], clean, radius, low, high, free, space.threat.norm)
            for name, radius, clean, low, high, free in parts]  # fmt: skip


def _started(space: Space, generator: torch.Generator | None) -> Tensor:
    return space.project(torch.cat([start(held, generator) for held in _modalities(space)], 1))


def _changed(space: Space, x: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """Change a piece of one modality of each study."""
    modalities = _modalities(space)
    weights = torch.tensor([held.pieces(share) for held in modalities]) * (space.radius.cpu() > 0)
    weights[:, 0] += weights.sum(1) == 0  # of a study without anything to change, the first, to no effect
    drawn = torch.multinomial(weights, 1, generator=generator)[:, 0].to(x.device)
    parts = []
    for number, (held, part) in enumerate(zip(modalities, torch.split(x, space.sizes, 1), strict=True)):
        rows = (drawn == number).nonzero()[:, 0]
        new = part.clone()
        if len(rows) and held.pieces(share):
            new[rows] = change(held.rows(rows), part[rows], share, generator)
        parts.append(new)
    return space.project(torch.cat(parts, 1))
