"""The losses of TRADES and MART against their formulas, written with probabilities."""

from __future__ import annotations

import math

import pytest
import torch
from taught import SIGNS, STAGE, THREE, TWO
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, kl_divergence

from mailnet.nn.heads import task_loss
from mailnet.specs import TaskSpec
from mailnet.training.defense.losses import divergence, mart_terms, trades_term


def logits(task: TaskSpec, seed: int) -> Tensor:
    return 2 * torch.randn(5, task.outputs, generator=torch.Generator().manual_seed(seed)).double()


CLEAN_AND_ATTACKED = (1, 2)
LABELS = {
    "grade": torch.tensor([0, 1, 1, -1, 0]),
    "finding": torch.tensor([2, 0, -1, 1, 1]),
    "stage": torch.tensor([0, 2, 1, 1, -1]),
    "signs": torch.tensor([[0, 1], [1, 1], [torch.nan, 0], [0, 0], [1, torch.nan]]).double(),
}
WEIGHTS = {
    "grade": torch.tensor([1.0, 3.0]).double(),
    "finding": torch.tensor([0.5, 2.0, 1.0]).double(),
    "stage": torch.tensor([2.0, 1.0, 0.5]).double(),
    "signs": torch.tensor([4.0, 0.5]).double(),
}


@pytest.mark.parametrize("task", [TWO, THREE])
@pytest.mark.parametrize("weighted", [False, True])
def test_of_classes(task: TaskSpec, weighted: bool) -> None:
    clean, attacked = (logits(task, seed) for seed in CLEAN_AND_ATTACKED)
    target = LABELS[task.name]
    known = target >= 0
    p, q, label = clean[known].softmax(1), attacked[known].softmax(1), target[known]
    weight = WEIGHTS[task.name][label] if weighted else torch.ones(len(label)).double()
    kl = kl_divergence(Categorical(p), Categorical(q))
    rows = torch.arange(len(label))
    wrong = torch.stack([torch.cat([q[i, :k], q[i, k + 1 :]]).max() for i, k in enumerate(label.tolist())])
    given = WEIGHTS[task.name] if weighted else None
    assert trades_term(task, clean, attacked, target, given).item() == pytest.approx(
        float((kl * weight).sum() / weight.sum())
    )
    margin, moved = mart_terms(task, clean, attacked, target, given)
    assert margin.item() == pytest.approx(float((-(1 - wrong).log() * weight).sum() / weight.sum()))
    doubt = 1 - p[rows, label]
    assert moved.item() == pytest.approx(float((kl * doubt * weight).sum() / weight.sum()))


@pytest.mark.parametrize("weighted", [False, True])
def test_of_thresholds(weighted: bool) -> None:
    clean, attacked = (logits(STAGE, seed) for seed in CLEAN_AND_ATTACKED)
    target = LABELS["stage"]
    known = target >= 0
    p, q, label = clean[known].sigmoid(), attacked[known].sigmoid(), target[known]
    weight = WEIGHTS["stage"][label] if weighted else torch.ones(len(label)).double()
    truth = (label[:, None] > torch.arange(2)).double()
    kl = kl_divergence(Bernoulli(p), Bernoulli(q))
    right = torch.where(truth > 0, q, 1 - q)
    doubt = torch.where(truth > 0, 1 - p, p)
    given = WEIGHTS["stage"] if weighted else None

    def mean(values: Tensor) -> float:
        return float((values.mean(1) * weight).sum() / weight.sum())

    assert trades_term(STAGE, clean, attacked, target, given).item() == pytest.approx(mean(kl))
    margin, moved = mart_terms(STAGE, clean, attacked, target, given)
    assert margin.item() == pytest.approx(mean(-right.log()))
    assert moved.item() == pytest.approx(mean(kl * doubt))


@pytest.mark.parametrize("weighted", [False, True])
def test_of_labels(weighted: bool) -> None:
    clean, attacked = (logits(SIGNS, seed) for seed in CLEAN_AND_ATTACKED)
    target = LABELS["signs"]
    known = ~target.isnan()
    p, q = clean.sigmoid(), attacked.sigmoid()
    truth = target.nan_to_num()
    factor = torch.where(truth > 0, WEIGHTS["signs"], 1.0) if weighted else torch.ones_like(truth)
    given = WEIGHTS["signs"] if weighted else None

    def mean(values: Tensor) -> float:
        return float((values * factor)[known].sum() / known.sum())

    kl = kl_divergence(Bernoulli(p), Bernoulli(q))
    assert trades_term(SIGNS, clean, attacked, target, given).item() == pytest.approx(mean(kl))
    margin, moved = mart_terms(SIGNS, clean, attacked, target, given)
    # Of a binary question the margin is the cross-entropy, class weights and all.
    assert margin.item() == pytest.approx(task_loss(SIGNS, attacked, target, given).item())
    assert moved.item() == pytest.approx(mean(kl * torch.where(truth > 0, 1 - p, p)))


@pytest.mark.parametrize("task", [TWO, THREE, STAGE, SIGNS])
def test_parts_by_their_shares_of_the_labels_add_up(task: TaskSpec) -> None:
    clean, attacked = (logits(task, seed) for seed in CLEAN_AND_ATTACKED)
    target, weight = LABELS[task.name], WEIGHTS[task.name]
    if task.kind == "multilabel":
        counts = (~target.isnan()).sum(1).double()
    else:
        counts = torch.where(target >= 0, weight[target.clamp(min=0)], 0.0)
    whole = torch.stack([trades_term(task, clean, attacked, target, weight),
                         *mart_terms(task, clean, attacked, target, weight)])  # fmt: skip
    total = torch.zeros(3).double()
    for part in (slice(0, 2), slice(2, 5)):
        given = task, clean[part], attacked[part], target[part], weight
        total += counts[part].sum() / counts.sum() * torch.stack([trades_term(*given), *mart_terms(*given)])
    torch.testing.assert_close(total, whole)


@pytest.mark.parametrize("task", [TWO, THREE, STAGE, SIGNS])
def test_nothing_known_is_nothing_lost(task: TaskSpec) -> None:
    clean, attacked = (logits(task, seed).requires_grad_() for seed in CLEAN_AND_ATTACKED)
    unknown = torch.full_like(LABELS[task.name], torch.nan if task.kind == "multilabel" else -1)
    found = torch.stack([trades_term(task, clean, attacked, unknown), *mart_terms(task, clean, attacked, unknown)])
    found.sum().backward()
    assert found.tolist() == [0, 0, 0]
    assert clean.grad is not None
    assert bool((clean.grad == 0).all())


@pytest.mark.parametrize("task", [TWO, THREE, STAGE, SIGNS])
def test_answers_that_do_not_move(task: TaskSpec) -> None:
    clean = logits(task, 1)
    assert float(divergence(task, clean, clean).abs().max()) == 0


def test_sure_answers_have_finite_losses_and_gradients() -> None:
    target = torch.tensor([0, 0])
    clean = torch.tensor([[300.0, 0, 0], [0, 300.0, 0]])
    attacked = torch.tensor([[0, 300.0, 0], [300.0, 0, 0]], requires_grad=True)
    margin, moved = mart_terms(THREE, clean, attacked, target)
    (margin + moved).backward()
    # Of the first study the other two share what is left, exp(-300) each.
    assert margin.item() == pytest.approx((300 - math.log(2)) / 2)
    assert attacked.grad is not None
    assert bool(attacked.grad.isfinite().all())
