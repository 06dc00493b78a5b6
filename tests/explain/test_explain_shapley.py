"""Shares of modalities and of columns: equal to captum and to closed forms, and they always add up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pandas as pd
import pytest
import torch
from captum.attr import ShapleyValues
from explained import CLINIC, CT, FINDING, GRADE, PET, PHOTO, SIGNS, STAGE, Linear, network, studies
from torch import Tensor, nn

from mailnet.data.config import TabularConfig
from mailnet.data.table import TableState
from mailnet.explain import column_features, column_shares, modality_shares, typical_row
from mailnet.explain.coalitions import Coalition, shapley
from mailnet.explain.shapley import Contributions
from mailnet.nn.batch import Batch
from mailnet.nn.heads import probabilities
from mailnet.specs import ModalitySpec, TaskSpec

COLUMNS = {"age": [0, 3], "sex": [1], "site": [2]}


def adds_up(found: Contributions) -> None:
    torch.testing.assert_close(torch.stack(list(found.shares.values())).sum(0), found.value - found.base)


def test_equal_to_captum_on_a_perceptron() -> None:
    torch.manual_seed(0)
    perceptron = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    x, base = torch.rand(3, 4, dtype=torch.float64), torch.rand(4, dtype=torch.float64)
    expected = ShapleyValues(lambda z: perceptron(z)[:, 0]).attribute(x, base[None].expand(3, -1))

    def worth(coalitions: Sequence[Coalition]) -> Tensor:
        return torch.stack([perceptron(torch.where(torch.tensor(c), x, base))[:, 0] for c in coalitions])

    found = shapley(worth, 4, generator=torch.Generator())
    torch.testing.assert_close(found.values.T, expected.double(), rtol=1e-5, atol=1e-6)
    assert found.errors is None
    sampled = shapley(worth, 4, permutations=40, exact=3, generator=torch.Generator().manual_seed(0))
    assert sampled.errors is not None
    assert bool(((sampled.values - found.values).abs() <= 4 * sampled.errors + 1e-9).all())
    torch.testing.assert_close(sampled.values.sum(0), found.values.sum(0))


def test_each_coalition_is_asked_once() -> None:
    asked: list[Coalition] = []

    def worth(coalitions: Sequence[Coalition]) -> Tensor:
        asked.extend(coalitions)
        return torch.tensor([[float(sum(c))] for c in coalitions])

    found = shapley(worth, 5, generator=torch.Generator())
    assert len(asked) == len(set(asked)) == 32
    torch.testing.assert_close(found.values, torch.ones(5, 1, dtype=torch.float64))
    for players, permutations, message in ((0, 8, "players must be"), (2, 1, "permutations must be")):
        with pytest.raises(ValueError, match=message):
            shapley(worth, players, permutations=permutations, generator=torch.Generator())


def test_shares_of_a_linear_network_are_its_terms() -> None:
    model = Linear((CT, PHOTO, PET, CLINIC))
    batch = studies(model, 4, absent={"ct": [1, 2], "clinic": [2]})
    found = modality_shares(model, batch, "grade", 1)
    adds_up(found)
    for name, x in batch.inputs.items():
        weight = model.weights["grade", name]
        expected = (x * (weight[1] - weight[0])).flatten(1).sum(1).double() * batch.present[name]
        torch.testing.assert_close(found.shares[name], expected, rtol=1e-3, atol=1e-4)
        assert not found.errors[name].any()
    assert not found.base.any()  # the log-odds of equal classes
    assert not found.shares["ct"][1]


@pytest.mark.parametrize("task", [FINDING, GRADE, STAGE, SIGNS], ids=lambda task: task.kind)
@pytest.mark.parametrize("unit", ["log_odds", "probability"])
def test_shares_add_up_from_the_prior(task: TaskSpec, unit: str) -> None:
    model = Linear((CT, PHOTO, CLINIC), (task,))
    batch = studies(model)
    prior = [0.7, 0.2, 0.1][: len(task.classes)]
    prior = prior if len(prior) == 3 or task.kind == "multilabel" else [0.7, 0.3]
    found = modality_shares(model, batch, task.name, 1, unit=unit, prior=prior)  # type: ignore[arg-type]
    adds_up(found)
    answers = probabilities(task, model(batch.inputs)[task.name])
    ordinal = task.kind == "ordinal"
    value = answers[:, 1:].sum(1) if ordinal else answers[:, 1]
    base = torch.tensor(sum(prior[1:]) if ordinal else prior[1])
    if unit == "log_odds":
        value, base = value.logit(), base.logit()
    torch.testing.assert_close(found.value, value.double(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.base, base.double().expand(3), rtol=1e-4, atol=1e-5)


def test_many_modalities_are_sampled() -> None:
    names = [ModalitySpec(f"m{k}", "tabular", channels=2) for k in range(8)]
    model = Linear(tuple(names))
    batch = studies(model, 2)
    found = modality_shares(model, batch, "grade", 1, unit="probability", permutations=6)
    adds_up(found)
    assert all(bool((errors > 0).all()) for errors in found.errors.values())
    again = modality_shares(model, batch, "grade", 1, unit="probability", permutations=6)
    assert torch.equal(found.shares["m3"], again.shares["m3"])


def test_shares_of_a_random_network_add_up() -> None:
    model = network("robust_mail", (CT, PHOTO))
    batch = studies(model, 3, absent={"photo": [0]})
    found = modality_shares(model, batch, "stage", draws=2)
    adds_up(found)
    assert not found.shares["photo"][0]


def test_a_network_that_needs_all_its_modalities_says_so() -> None:
    model = network("mail_reference", (CT, ModalitySpec("mr", size=(16, 16))))
    with pytest.raises(ValueError, match="the published networks need all"):
        modality_shares(model, studies(model), "grade")


def test_a_function_that_predicts() -> None:
    model = Linear((CT, PHOTO))
    batch = studies(model)

    def predict(some: Batch) -> dict[str, object]:
        return {"grade": probabilities(GRADE, model(some.inputs, some.present)["grade"]).numpy()}

    found = modality_shares(predict, batch, GRADE, 1)
    expected = modality_shares(model, batch, "grade", 1)
    torch.testing.assert_close(found.shares["ct"], expected.shares["ct"])
    with pytest.raises(ValueError, match="needs the task as a TaskSpec"):
        modality_shares(predict, batch, "grade")


def test_columns_of_a_linear_network_are_its_terms() -> None:
    model = Linear((CT, CLINIC))
    batch = studies(model, 3, absent={"clinic": [1]})
    baseline = torch.tensor([0.5, 0.0, 1.0, 0.0])
    found = column_shares(model, batch, "grade", "clinic", COLUMNS, 1, baseline=baseline)
    adds_up(found)
    weight = model.weights["grade", "clinic"]
    terms = (batch.inputs["clinic"] - baseline) * (weight[1] - weight[0]) * batch.present["clinic"][:, None]
    for name, places in COLUMNS.items():
        expected = terms[:, places].sum(1).double()
        torch.testing.assert_close(found.shares[name], expected, rtol=1e-3, atol=1e-5)
    sampled = column_shares(
        model, batch, "grade", "clinic", COLUMNS, 1, baseline=baseline, exact=1, permutations=4, unit="probability"
    )
    adds_up(sampled)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, b: column_shares(m, b, "grade", "ct", {}), "no table that any study has"),
        (lambda m, b: column_shares(m, b, "grade", "clinic", {"a": [0, 1]}), "each of the 4 features"),
        (lambda m, b: column_shares(m, b, "grade", "clinic", COLUMNS, baseline=torch.zeros(3)), r"must be \(4,\)"),
        (lambda m, b: modality_shares(m, b, "grade", unit="bits"), "unit 'bits'"),  # type: ignore[arg-type]
        (lambda m, b: modality_shares(m, b, "grade", prior=[1.0]), "prior must be 2 probabilities"),
        (lambda m, b: modality_shares(m, b, "grade", prior=[0.5, 0.6]), "add up to 1"),
        (lambda m, b: modality_shares(m, b, "grade", draws=2), "draws no random numbers"),
    ],
)
def test_bad_arguments(call: Callable[[nn.Module, Batch], object], message: str) -> None:
    model = Linear((CT, CLINIC))
    with pytest.raises(ValueError, match=message):
        call(model, studies(model))


def test_features_of_columns() -> None:
    rows = pd.DataFrame(
        {"age": [50.0, None, 70.0], "sex": ["F", "M", "F"], "x1": [1.0, 2.0, None], "x2": [3.0, 5.0, 4.0]}
    )
    config = TabularConfig(kind="tabular", numeric=["age", "x*"], categorical=["sex"])
    state = TableState.fit("clinic", config, rows)
    groups = column_features(state)
    named = {column: [state.features[k] for k in places] for column, places in groups.items()}
    assert named == {
        "age": ["age", "age missing"],
        "x1": ["x1"],
        "x2": ["x2"],
        "x* missing": ["x* missing"],
        "sex": ["sex=F", "sex=M", "sex=unknown"],
    }
    row = typical_row(torch.from_numpy(state.transform(rows)), groups)
    assert row[groups["sex"]].tolist() == [1, 0, 0]
    assert math.isclose(float(row[groups["age"][0]]), 0, abs_tol=1e-6)
    with pytest.raises(ValueError, match="no study has the table"):
        typical_row(torch.zeros(0, 2), {"a": [0, 1]})
