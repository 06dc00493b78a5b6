"""What each modality, and each column of a table, has to do with an answer: Shapley values of what a network gives.

A modality is taken away as a network has it: by its ``present`` mask, so that a network trained with absent modalities
answers as it would for such a study. Of no modality at all networks say nothing; the worth of none is the prior.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from mailnet.explain.coalitions import EXACT, Coalition, Shares, shapley
from mailnet.explain.explaining import evaluating
from mailnet.explain.question import Question
from mailnet.explain.score import Target, Unit, checked_prior, checked_target, class_probability, in_unit
from mailnet.explain.tuples import CHUNK
from mailnet.nn.batch import Batch
from mailnet.specs import TaskSpec

# Studies to task -> (B, K) probabilities, as ``Predictor.predict_batch`` is.
Predict: TypeAlias = Callable[[Batch], Mapping[str, Any]]


@dataclass(frozen=True)
class Contributions:
    """What each part of a study adds to the answer; they add up to ``value`` less ``base``.

    Args:
        task: The task.
        target: (B,) int64, the class.
        unit: Of all values, ``log_odds`` or ``probability``.
        shares: Modality or column -> (B,) float64; 0 where a study lacks the modality.
        errors: Modality or column -> (B,), standard error; 0 where the share is exact.
        base: (B,), what nothing is worth.
        value: (B,), what the study is worth.
    """

    task: str
    target: Tensor
    unit: Unit
    shares: dict[str, Tensor]
    errors: dict[str, Tensor]
    base: Tensor
    value: Tensor


def modality_shares(
    model: nn.Module | Predict,
    batch: Batch,
    task: str | TaskSpec,
    target: Target | None = None,
    *,
    unit: Unit = "log_odds",
    prior: Sequence[float] | Tensor | None = None,
    draws: int = 1,
    generator: torch.Generator | None = None,
    permutations: int = 64,
    exact: int = EXACT,
) -> Contributions:
    """Return the Shapley value of each modality that a study has.

    Args:
        model: The network, or a function that gives probabilities of studies, such as ``Predictor.predict_batch``.
        batch: The studies.
        task: Its name; of a function its spec.
        target: As of ``explain``.
        unit: What the values are of; as of ``explain``, an ordinal class is a grade of at least it.
        prior: (K,) probabilities of who has seen nothing of the study, best those of the classes in training; None for
            equal ones. It is the worth of no modality, which networks refuse to answer of.
        draws: Draws of a random network over which probabilities are averaged.
        generator: Of draws and orders; None for one seeded with 0.
        permutations: Orders of joining that are drawn of a study with more than ``exact`` modalities.
        exact: Modalities up to which values are exact: 2^6 - 1 predictions of a study with six.

    Raises:
        ValueError: What ``explain`` refuses, a prior that does not fit, or a network that needs all its modalities.
    """
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    names = list(batch.present)
    with evaluating(model):
        spec, ask = _asked(model, batch, task, draws, generator)
        found = ask(batch)
        classes = found.argmax(1) if target is None else checked_target(spec, target, len(batch))
        nothing = checked_prior(spec, prior).expand(len(batch), -1)
        base = in_unit(class_probability(spec, nothing, classes), unit).double()
        value = base.clone()
        shares = {name: torch.zeros(len(batch), dtype=torch.float64) for name in names}
        errors = {name: values.clone() for name, values in shares.items()}
        pattern = torch.stack([batch.present[name].cpu().bool() for name in names], 1)  # (B, M)
        for kind in torch.unique(pattern, dim=0):
            rows = (pattern == kind).all(1).nonzero()[:, 0]
            players = [name for name, here in zip(names, kind.tolist(), strict=True) if here]
            some = _take(batch, rows)

            def worth(
                coalitions: Sequence[Coalition],
                some: Batch = some,
                rows: Tensor = rows,
                players: list[str] = players,
            ) -> Tensor:
                values = []
                for coalition in coalitions:
                    if not any(coalition):
                        values.append(base[rows])
                        continue
                    kept = [name for name, inside in zip(players, coalition, strict=True) if inside]
                    answer = class_probability(spec, ask(_only(some, kept)), classes[rows])
                    values.append(in_unit(answer, unit).double())
                return torch.stack(values)

            part = shapley(worth, len(players), permutations=permutations, generator=generator, exact=exact)
            _write(players, rows, part, shares, errors)
            value[rows] = part.everybody
    return Contributions(spec.name, classes, unit, shares, errors, base, value)


def column_shares(
    model: nn.Module | Predict,
    batch: Batch,
    task: str | TaskSpec,
    table: str,
    columns: Mapping[str, Sequence[int]],
    target: Target | None = None,
    *,
    baseline: Tensor | None = None,
    unit: Unit = "log_odds",
    draws: int = 1,
    generator: torch.Generator | None = None,
    permutations: int = 64,
    exact: int = EXACT,
) -> Contributions:
    """Return the Shapley value of each column of a table, all else of the study as it is.

    A column that is taken away has the baseline's features: all that a category became at once.

    Args:
        model: As of ``modality_shares``.
        batch: The studies; of those that lack the table all shares are 0.
        task: As of ``modality_shares``.
        table: Name of the modality.
        columns: Column -> positions of its features, each feature in one column; see ``column_features``.
        target: As of ``explain``.
        baseline: (F,) features of a study of which nothing is known, best ``typical_row`` of the training studies; None
            for 0, the mean of numeric columns.
        unit: As of ``modality_shares``.
        draws: As of ``modality_shares``.
        generator: As of ``modality_shares``.
        permutations: Orders that are drawn of a table of more than ``exact`` columns; predictions are as many times the
            columns.
        exact: Columns up to which values are exact.

    Raises:
        ValueError: What ``explain`` refuses, a table that is none or that no study has, columns that leave features out
            or have them twice, or a baseline that does not fit.
    """
    if table not in batch.inputs or batch.inputs[table].ndim != 2 or not bool(batch.present[table].any()):
        raise ValueError(f"'{table}' is no table that any study has")
    x = batch.inputs[table]
    if sorted(k for places in columns.values() for k in places) != list(range(x.shape[1])):
        raise ValueError(f"columns must hold each of the {x.shape[1]} features of '{table}' once")
    base_row = torch.zeros_like(x[0]) if baseline is None else baseline.to(x)
    if base_row.shape != x.shape[1:]:
        raise ValueError(f"baseline must be ({x.shape[1]},), one value a feature, got {tuple(base_row.shape)}")
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    owner = torch.zeros(x.shape[1], dtype=torch.long)
    for k, places in enumerate(columns.values()):
        owner[list(places)] = k
    rows = batch.present[table].cpu().bool().nonzero()[:, 0]
    some = _take(batch, rows)
    with evaluating(model):
        spec, ask = _asked(model, batch, task, draws, generator)
        found = ask(batch)
        classes = found.argmax(1) if target is None else checked_target(spec, target, len(batch))

        def worth(coalitions: Sequence[Coalition]) -> Tensor:
            values: list[Tensor] = []
            step = max(CHUNK // len(rows), 1)
            for start in range(0, len(coalitions), step):
                inside = torch.tensor(coalitions[start : start + step])[:, owner].to(x.device)  # (n, F)
                repeated = _repeat(some, len(inside))
                seen = inside.repeat_interleave(len(rows), 0)
                repeated.inputs[table] = torch.where(seen, repeated.inputs[table], base_row)
                answer = class_probability(spec, ask(repeated), classes[rows].repeat(len(inside)))
                values += in_unit(answer, unit).double().reshape(len(inside), -1)
            return torch.stack(values)

        part = shapley(worth, len(columns), permutations=permutations, generator=generator, exact=exact)
    shares = {name: torch.zeros(len(batch), dtype=torch.float64) for name in columns}
    errors = {name: values.clone() for name, values in shares.items()}
    _write(list(columns), rows, part, shares, errors)
    value = in_unit(class_probability(spec, found, classes), unit).double().index_copy(0, rows, part.everybody)
    base = value.index_copy(0, rows, part.nobody)
    return Contributions(spec.name, classes, unit, shares, errors, base, value)


def _asked(
    model: nn.Module | Predict, batch: Batch, task: str | TaskSpec, draws: int, generator: torch.Generator
) -> tuple[TaskSpec, Callable[[Batch], Tensor]]:
    """Return the task and a function from studies to its probabilities (B, K), on the CPU."""
    if isinstance(model, nn.Module):
        name = task.name if isinstance(task, TaskSpec) else task
        question = Question(model, batch, name, draws=draws, generator=generator)
        return question.task, question.probabilities
    if not isinstance(task, TaskSpec):
        raise ValueError("a function that predicts needs the task as a TaskSpec")
    spec, predict = task, model
    return spec, lambda studies: torch.as_tensor(predict(studies)[spec.name]).float()


def _take(batch: Batch, rows: Tensor) -> Batch:
    def taken(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor[rows.to(tensor.device)] for name, tensor in tensors.items()}

    return Batch(taken(batch.inputs), taken(batch.present))


def _only(batch: Batch, kept: Sequence[str]) -> Batch:
    """Return the studies with these modalities alone."""
    inputs = {name: x for name, x in batch.inputs.items() if name in kept}
    return Batch(inputs, {name: here & (name in kept) for name, here in batch.present.items()})


def _repeat(batch: Batch, count: int) -> Batch:
    def repeated(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.repeat(count, *(1,) * (tensor.ndim - 1)) for name, tensor in tensors.items()}

    return Batch(repeated(batch.inputs), repeated(batch.present))


def _write(
    names: Sequence[str], rows: Tensor, part: Shares, shares: dict[str, Tensor], errors: dict[str, Tensor]
) -> None:
    for k, name in enumerate(names):
        shares[name][rows] = part.values[k]
        if part.errors is not None:
            errors[name][rows] = part.errors[k]
