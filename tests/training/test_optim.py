from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from torch import nn

from mailnet.data.config import TrainConfig
from mailnet.training.ema import EMA
from mailnet.training.optim import Plateau, create_optimizer, learning_rate


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_decay_holds_back_matrices_alone(kind: str) -> None:
    model = network()
    optimizer = create_optimizer(model, TrainConfig(optimizer=kind, weight_decay=0.3))
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] == 0.3 for p in group["params"]}
    assert decayed == {id(model[0].weight), id(model[3].weight)}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_cosine_rises_and_falls_to_zero() -> None:
    config = TrainConfig(learning_rate=1.0, warmup=0.1)
    rates = [learning_rate(config, step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10] == max(rates) == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0, abs=1e-9)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_cosine_equals_that_of_torch() -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.5)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    config = TrainConfig(learning_rate=0.5, warmup=0.0)
    for step in range(20):
        assert learning_rate(config, step, 20) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()


def test_plateau_equals_that_of_torch() -> None:
    losses = [1.0, 0.9, 0.95, 0.91, 0.92, 0.9, 0.9, 0.5, 0.6, 0.6, 0.6, 0.6]
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=2)
    plateau = Plateau(patience=2)
    for loss in losses:
        plateau.update(loss)
        reference.step(loss)
        assert plateau.factor == pytest.approx(optimizer.param_groups[0]["lr"])


def test_only_the_plateau_schedule_falls_by_its_factor_and_not_below_the_floor() -> None:
    config = TrainConfig(learning_rate=1.0, warmup=0.0, schedule="plateau")
    assert learning_rate(config, 7, 10, 0.01) == pytest.approx(0.01)
    assert learning_rate(config, 7, 10, 1e-9) == pytest.approx(1e-5)
    assert learning_rate(config.model_copy(update={"schedule": "constant"}), 7, 10, 0.01) == 1.0


def test_a_loss_that_is_not_defined_is_no_improvement() -> None:
    plateau = Plateau(patience=1)
    plateau.update(math.inf)
    assert (plateau.best, plateau.waited) == (None, 1)
    plateau.update(1.0)
    assert (plateau.best, plateau.waited) == (1.0, 0)


def test_average_covers_batch_statistics_and_forgets_the_start() -> None:
    model = network()
    first = copy.deepcopy(model.state_dict())
    ema = EMA(model, 0.999)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(2.0)
    model[1].running_mean.fill_(3.0)  # type: ignore[union-attr,operator]
    model[1].num_batches_tracked.fill_(5)  # type: ignore[union-attr,operator]
    ema.update(model)  # decay 1 / 10
    expected = 0.1 * first["3.weight"] + 0.9 * 2.0
    torch.testing.assert_close(ema.model.state_dict()["3.weight"], expected)
    torch.testing.assert_close(ema.model.state_dict()["1.running_mean"], torch.full((4,), 2.7))
    assert int(ema.model.state_dict()["1.num_batches_tracked"]) == 5
    for _ in range(50):
        ema.update(model)
    torch.testing.assert_close(ema.model.state_dict()["3.weight"], torch.full((2, 4), 2.0), atol=1e-3, rtol=0)
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())
