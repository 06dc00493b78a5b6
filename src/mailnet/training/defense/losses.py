"""Losses of a network's answers to clean and attacked studies, for every kind of task.

A multilabel task is as many binary questions as it has labels, an ordinal one as many as it has thresholds, as in plain
training; where a study has no label of a task it counts for nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mailnet.specs import TaskSpec


def trades_term(
    task: TaskSpec, clean: Tensor, attacked: Tensor, target: Tensor, class_weight: Tensor | None = None
) -> Tensor:
    """Return the mean of KL(p(x) || p(x')) over the labels that are known, a number.

    Args:
        task: The task.
        clean: (B, outputs) logits of the clean studies.
        attacked: (B, outputs) of the attacked ones.
        target: Labels, see ``Batch``.
        class_weight: (K,) class weights, used as in ``task_loss``.

    Source: Zhang et al., "Theoretically principled trade-off between robustness and accuracy", ICML 2019 (TRADES).
    """
    return _mean(task, _folded(task, divergence(task, clean, attacked)), target, class_weight)


def mart_terms(
    task: TaskSpec, clean: Tensor, attacked: Tensor, target: Tensor, class_weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return what MART adds to the cross-entropy of the attacked studies, two numbers.

    The first is the margin of its boosted cross-entropy, -log(1 - max_k p_k(x')) over the wrong classes; the second, to
    be multiplied by beta, KL(p(x) || p(x')) (1 - p_y(x)), which is large where the clean study is misclassified. Of a
    binary question the only wrong class has 1 - p_y, so that the margin is the cross-entropy once more.

    Args:
        task: The task.
        clean: As of ``trades_term``, as are the others.
        attacked: See there.
        target: See there.
        class_weight: See there.

    Source: Wang et al., "Improving adversarial robustness requires revisiting misclassified examples", ICLR 2020.
    """
    kl = divergence(task, clean, attacked)
    if _questions(task):
        truth = _truth(task, target, clean)
        sign = 1 - 2 * truth  # of a wrong answer's logit
        margin = functional.softplus(sign * attacked)
        doubt = (sign * clean).sigmoid()
    else:
        label = target.clamp(min=0)[:, None]
        wrong = attacked.scatter(1, label, -torch.inf).argmax(1, keepdim=True)
        # From logits, since 1 - p of a probability of 1 has no logarithm.
        margin = attacked.logsumexp(1) - attacked.scatter(1, wrong, -torch.inf).logsumexp(1)
        doubt = 1 - clean.softmax(1).gather(1, label)[:, 0]
    first, second = _folded(task, margin), _folded(task, kl * doubt)
    return _mean(task, first, target, class_weight), _mean(task, second, target, class_weight)


def divergence(task: TaskSpec, clean: Tensor, attacked: Tensor) -> Tensor:
    """Return KL(p || q) of each study (B,), or of each binary question (B, outputs) of a multilabel or ordinal task.

    Args:
        task: The task.
        clean: (B, outputs) logits of p.
        attacked: (B, outputs) logits of q.
    """
    if not _questions(task):
        log_p, log_q = clean.log_softmax(1), attacked.log_softmax(1)
        return (log_p.exp() * (log_p - log_q)).sum(1)
    yes = clean.sigmoid() * (functional.logsigmoid(clean) - functional.logsigmoid(attacked))
    no = (-clean).sigmoid() * (functional.logsigmoid(-clean) - functional.logsigmoid(-attacked))
    return yes + no


def _questions(task: TaskSpec) -> bool:
    return task.kind in ("multilabel", "ordinal")


def _folded(task: TaskSpec, values: Tensor) -> Tensor:
    """An ordinal task's mean over its thresholds, (B,); others as they are."""
    return values.mean(1) if task.kind == "ordinal" else values


def _truth(task: TaskSpec, target: Tensor, like: Tensor) -> Tensor:
    """(B, outputs) of 0 and 1, the right answer to each binary question; 0 where it is unknown."""
    if task.kind == "multilabel":
        return torch.where(target > 0.5, 1.0, 0.0).to(like)
    return (target[:, None] > torch.arange(task.outputs, device=target.device)).to(like)


def _mean(task: TaskSpec, values: Tensor, target: Tensor, class_weight: Tensor | None) -> Tensor:
    """Mean over the known labels, with class weights as ``task_loss`` uses them; 0 where none is known."""
    if task.kind == "multilabel":
        total = (~target.isnan()).to(values)
        weight = total if class_weight is None else total * torch.where(target > 0.5, class_weight, 1.0)
    else:
        weight = (target >= 0).to(values)
        weight = weight if class_weight is None else weight * class_weight[target.clamp(min=0)]
        total = weight
    denominator = total.sum()
    mean: Tensor = (values * weight).sum() / torch.where(denominator > 0, denominator, 1)
    return mean
