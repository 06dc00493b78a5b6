"""What a measurement must know of a network first: whether it draws, which suite fits it, that it gives logits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from mailnet.attacks import Objective, Problem, Threat
from mailnet.attacks.layout import Layout, Precision
from mailnet.attacks.randomness import is_random
from mailnet.bundle import Predictor, load
from mailnet.data.study import StudyData
from mailnet.errors import ConfigError
from mailnet.nn.batch import Batch
from mailnet.robustness.attack.alignment import AIM, measure_alignment
from mailnet.robustness.attack.card import describe_model
from mailnet.robustness.attack.studies import known_labels, one_of_each_kind, read_batch
from mailnet.robustness.attack.suites import Suite, get_suite
from mailnet.specs import TaskSpec
from mailnet.training.device import seed_of

TOLERANCE = 1e-4
ALIGNED = 64  # studies of a kind on which the cosine between draws is measured
FEW = 8  # studies, below which a kind has no say in it where others have more


def draws_numbers(model: nn.Module, batches: Iterable[Batch]) -> bool:
    """Return whether a network answers two passes over the same studies differently.

    Args:
        model: The network, in evaluation mode.
        batches: Studies of every kind, as those with another modality absent: what of a network runs may depend on it.
    """
    return any(is_random(model, batch.inputs, batch.present) for batch in batches)


def choose_suite(name: str | None, random: bool, insist: bool) -> tuple[Suite, list[str]]:
    """Return the suite of a name, by default the one that fits, and why its figures are not reliable.

    Raises:
        ConfigError: It is unknown, or does not fit the network and nobody insists.
    """
    try:
        suite = get_suite(name or ("rand" if random else "standard"))
    except ValueError as error:
        raise ConfigError(str(error), remedy="Leave it out for the one that fits the network") from error
    refusal = suite.refusal(random)
    if refusal is not None and not insist:
        raise ConfigError(refusal, remedy="Leave --suite out, or insist with --i-know")
    return suite, [reason for reason in (refusal, suite.caveat) if reason is not None]


def choose_precision(given: str, model: nn.Module, batches: Iterable[Batch]) -> Precision:
    """Return what a network computes in while it is searched.

    Args:
        given: ``fp32`` or ``bf16``.
        model: The network, which is asked in ``bf16`` before hours are spent.
        batches: Studies of every kind.

    Raises:
        ConfigError: Another word, or the network does not compute so.
    """
    if given not in get_args(Precision):
        known = " or ".join(get_args(Precision))
        raise ConfigError(f"precision must be {known}, got '{given}'", remedy="bf16 searches faster, fp32 exactly")
    precision = cast(Precision, given)
    if precision == "fp32":
        return precision
    with torch.no_grad(), torch.random.fork_rng():
        for batch in batches:
            try:
                Layout().ask(model, batch.inputs, batch.present, precision)
            except ValueError as error:
                raise ConfigError(str(error), remedy="Give --precision fp32") from error
    return precision


def choose_draws(
    predictor: Predictor,
    data: StudyData,
    batches: Sequence[np.ndarray],
    threat: Threat,
    attacked: Sequence[tuple[str, ...]],
    max_draws: int,
    seed: int,
    *,
    straight_through: bool,
) -> dict[str, Any]:
    """Return how many draws of a random network are averaged, and why, as the card says it.

    The attacker whose gradients agree least decides for all: those of one task, or of the studies of one kind, may need
    many more draws than the others', which a mean over all would hide.

    Args:
        predictor: The model.
        data: The studies.
        batches: Those that are attacked, each of one kind; one at least has what the attacker holds.
        threat: What he holds.
        attacked: Tasks that are attacked together, one group after the other.
        max_draws: The most draws.
        seed: Of the draws.
        straight_through: Whether gradients pass through clips.
    """
    kinds = [
        part for part in one_of_each_kind(data, batches) if any(data.present[name][part[0]] for name in threat.eps)
    ]
    generator = torch.Generator().manual_seed(seed_of(seed, "alignment"))
    found = []
    for part in [kind for kind in kinds if len(kind) >= FEW] or kinds:
        batch = read_batch(data, part[:ALIGNED], predictor.device)
        for tasks in attacked:
            if known_labels(data, tasks)[:, part[:ALIGNED]].any():
                # Two draws, so that a network without a source of ours is asked whether it draws.
                problem = Problem(predictor.model, batch, threat, Objective(tasks=tasks), draws=2,
                                  straight_through=straight_through)  # fmt: skip
                found.append(measure_alignment(problem.with_draws(1, generator=generator), cap=max_draws))
    least = min(found, key=lambda each: each.cosine)
    return {**least.as_dict(), "aim": AIM, "capped": least.reached < AIM}


def refuse_probabilities(tasks: Mapping[str, TaskSpec], logits: Mapping[str, Tensor]) -> None:
    """Refuse a network whose outputs are probabilities already: gradients of the loss of these are wrong and vanish.

    Args:
        tasks: Its tasks; those of which each class has a logit are looked at.
        logits: Task -> (B, outputs) of a forward pass.

    Raises:
        ValueError: All rows of a task lie in [0, 1] and sum to one.
    """
    for name, given in logits.items():
        alike = name in tasks and tasks[name].kind in ("binary", "multiclass") and len(given) > 0
        if (
            alike
            and bool((given >= 0).all())
            and bool(torch.isclose(given.sum(1), given.new_ones(()), atol=TOLERANCE).all())
        ):
            raise ValueError(
                f"task '{name}': the network returns probabilities, not logits; leave its last softmax away, lest the "
                "gradients that an attack follows vanish"
            )


def load_source(predictor: Predictor, run: Path, device: str) -> tuple[nn.Module, dict[str, Any]]:
    """Return another run's network, of which attacks are carried over, and what the card says of it.

    Raises:
        ConfigError: It does not answer the same tasks from the same modalities.
        RunError: It cannot be read.
    """
    other = load(run, device)
    if set(other.modalities) != set(predictor.modalities) or other.tasks != predictor.tasks:
        raise ConfigError("has other modalities or tasks", file=run, remedy="Name a run of the same study as a source")
    return other.model.requires_grad_(False), describe_model(other, run)
