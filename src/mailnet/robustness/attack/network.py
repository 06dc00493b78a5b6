"""What a measurement must know of a network first: whether it draws, which suite fits it, that it gives logits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from mailnet.attacks.randomness import is_random
from mailnet.errors import ConfigError
from mailnet.nn.batch import Batch
from mailnet.robustness.attack.suites import Suite, get_suite
from mailnet.specs import TaskSpec

TOLERANCE = 1e-4


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
        raise ConfigError(str(error), remedy="Leave it away for the one that fits the network") from error
    refusal = suite.refusal(random)
    if refusal is not None and not insist:
        raise ConfigError(refusal, remedy="Leave --suite away, or insist with --i-know")
    return suite, [reason for reason in (refusal, suite.caveat) if reason is not None]


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
