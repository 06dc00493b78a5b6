"""One call for all methods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mailnet.explain.explanation import Explanation
from mailnet.explain.question import Question
from mailnet.explain.registry import Found, get_explainer
from mailnet.explain.score import Target
from mailnet.nn.batch import Batch


def explain(
    model: nn.Module,
    batch: Batch,
    task: str,
    target: Target | None = None,
    method: str = "layer_cam",
    *,
    draws: int = 1,
    generator: torch.Generator | None = None,
    modalities: Sequence[str] | None = None,
    **options: Any,
) -> Explanation:
    """Return why a network says of studies what it says: a map for each image and volume, values for each table.

    What is explained are the log-odds of a class, of an ordinal task those of a grade of at least the class (of the
    lowest, of no more): see ``mailnet.explain.score``. The network's mode, gradients and noise are left as they were.

    Args:
        model: The network; in training mode it is put into evaluation mode meanwhile.
        batch: B studies, on any device. Modalities that a study lacks are never explained and have zeros.
        task: The task.
        target: A class by number or name, or (B,) numbers; of a multilabel task a label. None for the most probable.
        method: One of ``list_explainers()``.
        draws: Draws of a random network over which maps are averaged. A draw keeps its numbers throughout, for all
            studies alike. A network whose noise is off is not random.
        generator: Where the numbers of draws, masks and noisy copies come from; None for one seeded with 0, so that
            explanations repeat.
        modalities: What is explained, while the others stay as they are; None for all. A modality that is left out, or
            that the method does not serve (tables in class activation maps), is left out of the result.
        options: Those of the method, see ``default_options``.

    Returns:
        The explanation, on the network's device.

    Raises:
        ValueError: An unknown task, class, method, option or modality, no study that has any of what is asked, several
            draws of a network that is not random, or a network that the method cannot look into.
    """
    explainer = get_explainer(method, **options)
    with evaluating(model):
        question = Question(model, batch, task, target, draws=draws, generator=generator, modalities=modalities)
        found: list[Found] = []
        scores: list[Tensor] = []
        for _ in question.each_draw():
            found.append(explainer(question, **options))
            scores.append(question.clean_score())
    signed = found[0].signed
    maps, columns, stages = {}, {}, {}
    for name in question.asked:
        if question.specs[name].spatial_dims:
            several = [one.maps[name] for one in found if name in one.maps]
            empty = question.batch.inputs[name].new_zeros(len(batch), *question.batch.inputs[name].shape[2:])
            maps[name] = _mean(several, signed) if several else empty
            if parts := [one.stages[name] for one in found if name in one.stages]:
                stages[name] = tuple(_mean(values, signed) for values in zip(*parts, strict=True))
        elif any(one.columns for one in found):
            several = [one.columns[name] for one in found if name in one.columns]
            columns[name] = _mean(several, signed) if several else torch.zeros_like(question.batch.inputs[name])
    residuals = [one.residual for one in found if one.residual is not None]
    return Explanation(
        task,
        question.classes(),
        method,
        maps,
        columns,
        signed,
        score=torch.stack(scores).mean(0),
        residual=torch.stack(residuals).mean(0) if residuals else None,
        stages=stages,
    )


def _mean(draws: Sequence[Tensor], signed: bool) -> Tensor:
    """Return the mean over draws; what has no sign is cut off only then, lest noise of both signs count as evidence."""
    mean = torch.stack(list(draws)).mean(0)
    return mean if signed else mean.clamp(min=0)


@contextmanager
def evaluating(model: object) -> Iterator[None]:
    """Put a network in training into evaluation mode, and each of its modules back into its own."""
    if not isinstance(model, nn.Module) or not model.training:
        yield  # with whatever the user left on, as dropout to be averaged over
        return
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
