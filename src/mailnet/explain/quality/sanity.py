"""The parameter-randomisation test: an explanation that stays when the network forgets does not explain the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from mailnet.bundle.draws import kinds
from mailnet.explain.explanation import Explanation
from mailnet.explain.quality.randomise import copied, layers_from_output, randomise
from mailnet.explain.quality.similarity import rank_correlation, structural_similarity
from mailnet.nn.batch import Batch

# Network, studies, and the class of each that is to be explained, None for the one that the network answers.
ExplainFn: TypeAlias = Callable[[nn.Module, Batch, Tensor | None], Explanation]
LIMIT = 0.5


@dataclass(frozen=True)
class Randomisation:
    """How alike an explanation stays to itself as a network forgets.

    Args:
        stages: Name of each stage: ``none`` (the network as it is, explained again), ``heads``, then how far down.
        shares: Share of the parameters that are shuffled at each stage.
        rank: (S, B) rank correlation of the maps' sizes with the original.
        ssim: (S, B) structural similarity with it.
    """

    stages: list[str]
    shares: list[float]
    rank: Tensor
    ssim: Tensor

    def passed(self, limit: float = LIMIT) -> bool:
        """Return whether the maps of the network that has forgotten everything are others than the original.

        Args:
            limit: Highest mean rank correlation.
        """
        last = self.rank[-1]
        return bool(last[~last.isnan()].mean() <= limit)

    def as_dict(self) -> dict[str, Any]:
        """Return the means over studies by stage, and whether the test is passed, for JSON."""

        def mean(values: Tensor) -> float | None:
            known = values[~values.isnan()]
            return float(known.mean()) if len(known) else None

        lines = zip(self.stages, self.shares, self.rank, self.ssim, strict=True)
        return {
            "stages": [
                {"stage": name, "parameters": share, "rank_correlation": mean(rank), "ssim": mean(ssim)}
                for name, share, rank, ssim in lines
            ],
            "limit": LIMIT,
            "passed": self.passed(),
        }


def randomisation_test(
    model: nn.Module,
    batch: Batch,
    explain_fn: ExplainFn,
    *,
    stages: int = 4,
    generator: torch.Generator | None = None,
) -> Randomisation:
    """Shuffle a network's parameters from the heads down and compare its explanations with the original ones.

    Signs are left out: a shuffled head may turn them all around without a pixel changing its place. So are modalities
    that a study lacks, whose maps are zero whatever the network is. The class explained is the same at all stages.
    Where the method draws random numbers, the stage ``none`` says how alike two explanations of the same network are,
    which is the most that can be asked.

    Args:
        model: The network, in evaluation mode; it is copied and stays what it is.
        batch: B studies; some tens of them give steady means.
        explain_fn: ``lambda model, batch, target: explain(model, batch, task, target=target, method=...)``.
        stages: How many stages of shuffling: the heads, then the layers below them in equal numbers.
        generator: Of the shuffling; default always the same.

    Raises:
        ValueError: Fewer than two stages, or a network in training.

    Source:
        Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018. That a cascade from the top leaves much of a
        convolutional network's activations as they are, so that only its last stage can be judged: Binder et al.,
        "Shortcomings of Top-Down Randomization-Based Sanity Checks", CVPR 2023.
    """
    if stages < 2:
        raise ValueError(f"stages must be at least 2, got {stages}")
    if model.training:
        raise ValueError("the network is in training; call model.eval() first")
    generator = generator or torch.Generator().manual_seed(0)
    original = explain_fn(model, batch, None)
    damaged = copied(model)
    first = next(damaged.parameters())
    moved = batch.to(first.device)
    heads, below = layers_from_output(damaged, moved)
    stages = min(stages, len(below) + 1)
    cuts = [round(len(below) * k / max(stages - 1, 1)) for k in range(stages)]
    groups = [heads, *(below[low:high] for low, high in pairwise(cuts))]
    names, shares = ["none"], [0.0]
    ranks: list[Tensor] = []
    similar: list[Tensor] = []
    _compare(batch, original, explain_fn(damaged, batch, original.target), ranks, similar)
    total, done = sum(p.numel() for p in damaged.parameters()), 0
    for number, group in enumerate(groups):
        randomise(damaged, group, moved, generator)
        modules = [damaged.get_submodule(name) for name in group]
        done += sum(p.numel() for module in modules for p in module.parameters(recurse=False))
        names.append("heads" if number == 0 else f"down to {group[-1]}")
        shares.append(done / total)
        _compare(batch, original, explain_fn(damaged, batch, original.target), ranks, similar)
    return Randomisation(names, shares, torch.stack(ranks), torch.stack(similar))


def _compare(batch: Batch, first: Explanation, second: Explanation, ranks: list[Tensor], similar: list[Tensor]) -> None:
    rank = torch.full((len(batch),), torch.nan, dtype=torch.float64)
    ssim = rank.clone()
    for rows, part in kinds(batch.to("cpu")):
        one, other = (_seen(explanation, rows, part) for explanation in (first, second))
        rank[rows], ssim[rows] = rank_correlation(one, other), structural_similarity(one, other)
    ranks.append(rank)
    similar.append(ssim)


def _seen(explanation: Explanation, rows: Tensor, part: Batch) -> Explanation:
    """Return the explanation of some studies, of the modalities that they have."""
    maps = {name: several.cpu()[rows] for name, several in explanation.maps.items() if name in part.inputs}
    return replace(explanation, target=explanation.target.cpu()[rows], maps=maps)
