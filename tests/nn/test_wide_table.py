"""The embedding of a table, from a few inputs to thousands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mailnet.nn import create_model
from mailnet.nn.mail import MAIL
from mailnet.specs import ModalitySpec, TaskSpec

COLUMNS, INFORMATIVE, STUDIES = 5000, 60, 300


def network(columns: int, **options: object) -> MAIL:
    modalities = {"rna": ModalitySpec("rna", "tabular", channels=columns)}
    model = create_model("mail", modalities, {"type": TaskSpec("type", ("a", "b"), "binary")}, **options)
    assert isinstance(model, MAIL)
    return model


def omics(studies: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return (N, 5000) inputs, 60 of which differ by 0.7 standard deviations between the classes, and labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, studies)
    inputs = random.normal(size=(studies, COLUMNS))
    inputs[:, 17 : 17 + 80 * INFORMATIVE : 80] += 0.35 * (2 * labels[:, None] - 1)
    return torch.tensor(inputs, dtype=torch.float32), torch.tensor(labels)


def trained_accuracy(feature_dropout: float | None) -> float:
    torch.manual_seed(0)
    model = network(COLUMNS, width="nano", feature_dropout=feature_dropout)
    inputs, labels = omics(STUDIES, 0)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=60)
    for _ in range(12):
        for rows in torch.randperm(STUDIES).split(60):
            optimizer.zero_grad()
            functional.cross_entropy(model({"rna": inputs[rows]})["type"], labels[rows]).backward()
            optimizer.step()
            schedule.step()
    tests, truth = omics(1000, 1)
    with torch.inference_mode():
        return float((model.eval()({"rna": tests})["type"].argmax(1) == truth).float().mean())


def test_few_informative_columns_among_thousands_are_found() -> None:
    plain, dropped = trained_accuracy(0.0), trained_accuracy(None)
    assert plain > 0.65  # chance is 0.5 with a standard error of 0.016
    assert dropped > plain


def test_only_wide_tables_lose_inputs_by_default() -> None:
    assert network(256).trunks["rna_"].norm.dropout == 0
    assert network(257).trunks["rna_"].norm.dropout == 0.5
    assert network(257, feature_dropout=0.1).trunks["rna_"].norm.dropout == 0.1
    assert network(4, feature_dropout=0.1).trunks["rna_"].norm.dropout == 0.1


def test_inputs_are_dropped_in_training_alone_and_the_others_scaled() -> None:
    norm = network(1000, feature_dropout=0.75).trunks["rna_"].norm
    seen = norm(torch.ones(50, 1000))
    assert set(seen.unique().tolist()) == {0.0, 4.0}
    assert float(seen.mean()) == pytest.approx(1, abs=0.05)
    assert bool((norm.eval()(torch.ones(50, 1000)) == 1).all())


def test_a_wide_table_costs_one_narrow_layer_more() -> None:
    parameters = [sum(p.numel() for p in network(columns, width="tiny").parameters()) for columns in (100, 5100)]
    assert parameters[1] - parameters[0] == 5000 * 32


@pytest.mark.parametrize("name", ["mail", "robust_mail"])
def test_feature_dropout_out_of_range(name: str) -> None:
    with pytest.raises(ValueError, match="feature_dropout must be at least 0 and below 1"):
        create_model(name, {"rna": ModalitySpec("rna", "tabular", channels=3)}, {"type": 2}, feature_dropout=1.0)
