"""The defences that train on attacked studies.

All attack within the threat model of ``train.defense``, from a random point of each ball, and by the loss of the batch
as training has it: all tasks, with their weights. The attack sees the network in evaluation mode, the loss that is
minimised in training mode; a random network draws anew at every pass of both.

Sources: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018 (``pgd_at``); Zhang et
al., ICML 2019 (``trades``); Wang et al., ICLR 2020 (``mart``); Wong, Rice, Kolter, "Fast is better than free:
revisiting adversarial training", ICLR 2020 (``fast``); Shafahi et al., "Adversarial training for free!", NeurIPS 2019
(``free``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from mailnet.attacks import Problem, Threat
from mailnet.attacks.pgd import pgd
from mailnet.attacks.threat import Space
from mailnet.data.config import DefenseConfig
from mailnet.nn.batch import Batch
from mailnet.nn.noise import mean_logits
from mailnet.training.defense.alignment import misalignment
from mailnet.training.defense.ascent import ascend, attacked_space, climbed
from mailnet.training.defense.lesson import Lesson, Losses
from mailnet.training.defense.losses import mart_terms, trades_term
from mailnet.training.defense.modes import evaluated
from mailnet.training.defense.weights import worst_weights


class Adversarial:
    """Training on studies that an attack has changed, by the plain loss: ``pgd_at``, and the frame of the others.

    Args:
        settings: What ``train.defense`` says.
        threat: The threat model.
    """

    replays = 1
    passes = 1

    def __init__(self, settings: DefenseConfig, threat: Threat) -> None:
        self.settings, self.threat = settings, threat

    def backward(self, lesson: Lesson) -> Losses:
        """See ``Defense``."""
        space = self._space(lesson)
        attacked = lesson.batch if space is None else lesson.given(space.split(self._attack(lesson, space)))
        if self.settings.awp is None:
            return self._learn(lesson, space, attacked)
        with worst_weights(
            lesson.network,
            lambda: lesson.mean(self._losses(lesson, lesson.network, space, attacked)),
            self.settings.awp,
        ):
            return self._learn(lesson, space, attacked)

    def disturb(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Batch:
        """See ``Defense``: by PGD against all tasks together, in the whole radius."""
        if attacked_space(batch, self.threat) is None:
            return batch
        assert self.settings.validation_steps is not None
        assert self.settings.validation_draws is not None
        problem = Problem(network, batch, self.threat, draws=self.settings.validation_draws)
        found = pgd(problem, steps=self.settings.validation_steps, generator=generator)
        return Batch(problem.inputs(found), batch.present, batch.targets, batch.ids)

    def _space(self, lesson: Lesson) -> Space | None:
        """What may be changed at this point of the training."""
        warmup = self.settings.warmup or 0.0
        return attacked_space(lesson.batch, self.threat, min(1.0, lesson.reached / warmup) if warmup else 1.0)

    def _attack(self, lesson: Lesson, space: Space) -> Tensor:
        return self._ascend(lesson, space, lambda logits: lesson.mean(lesson.plain(logits)))

    def _ascend(self, lesson: Lesson, space: Space, loss: Callable[[Mapping[str, Tensor]], Tensor]) -> Tensor:
        steps, step, draws = self.settings.steps or 1, self.settings.step, self.settings.draws
        assert step is not None
        assert draws is not None
        start = space.random(lesson.generator())
        return ascend(lesson.network, space, lesson.batch, start, loss, steps=steps, step=step, draws=draws)

    def _learn(self, lesson: Lesson, space: Space | None, attacked: Batch) -> Losses:
        losses = self._losses(lesson, lesson.model, space, attacked)
        lesson.backward(lesson.mean(losses))
        return losses

    def _losses(self, lesson: Lesson, network: nn.Module, space: Space | None, attacked: Batch) -> Losses:
        """What is minimised, each task's part of it."""
        return lesson.plain(network(attacked.inputs, attacked.present))


class Fast(Adversarial):
    """One long step from a random point; with ``alignment``, input gradients in a ball are kept parallel."""

    def __init__(self, settings: DefenseConfig, threat: Threat) -> None:
        super().__init__(settings, threat)
        self.passes = 1 if settings.alignment is None else 5  # two gradients that are differentiated once more

    def _losses(self, lesson: Lesson, network: nn.Module, space: Space | None, attacked: Batch) -> Losses:
        losses = super()._losses(lesson, network, space, attacked)
        if self.settings.alignment is None or space is None:
            return losses
        point = space.random(lesson.generator().manual_seed(lesson.seed + 1))  # another one than the attack's start
        found = misalignment(
            lesson.network, space, lesson.batch, point, lambda logits: lesson.mean(lesson.plain(logits))
        )
        return {name: loss + self.settings.alignment * lesson.shares[name] * found for name, loss in losses.items()}


class Trades(Adversarial):
    """The plain loss of the clean studies, and beta times how far answers move under the attack, which seeks that."""

    passes = 2

    def _attack(self, lesson: Lesson, space: Space) -> Tensor:
        draws = self.settings.draws or 1
        batch = lesson.batch
        with evaluated(lesson.network, frozen=False), torch.no_grad():
            clean = mean_logits([lesson.network(batch.inputs, batch.present) for _ in range(draws)], lesson.tasks)
        return self._ascend(lesson, space, lambda logits: lesson.mean(self._moved(lesson, clean, logits)))

    def _moved(self, lesson: Lesson, clean: Mapping[str, Tensor], attacked: Mapping[str, Tensor]) -> Losses:
        return {
            name: lesson.shares[name]
            * trades_term(task, clean[name], attacked[name], lesson.batch.targets[name], lesson.class_weights.get(name))
            for name, task in lesson.tasks.items()
        }

    def _losses(self, lesson: Lesson, network: nn.Module, space: Space | None, attacked: Batch) -> Losses:
        assert self.settings.beta is not None
        clean = network(lesson.batch.inputs, lesson.batch.present)
        moved = self._moved(lesson, clean, network(attacked.inputs, attacked.present))
        return {name: loss + self.settings.beta * moved[name] for name, loss in lesson.plain(clean).items()}


class Mart(Adversarial):
    """A boosted cross-entropy of the attacked studies, and beta times how far answers move where the clean one errs."""

    passes = 2

    def _losses(self, lesson: Lesson, network: nn.Module, space: Space | None, attacked: Batch) -> Losses:
        assert self.settings.beta is not None
        clean = network(lesson.batch.inputs, lesson.batch.present)
        logits = network(attacked.inputs, attacked.present)
        losses = lesson.plain(logits)
        for name, task in lesson.tasks.items():
            margin, moved = mart_terms(
                task, clean[name], logits[name], lesson.batch.targets[name], lesson.class_weights.get(name)
            )
            losses[name] = losses[name] + lesson.shares[name] * (margin + self.settings.beta * moved)
        return losses


class Free(Adversarial):
    """Several optimizer steps of each batch, whose backward passes also give the steps of the attack.

    The network is in training mode for both. A batch's attack begins at a random point; as published it goes on from
    that of the batch before, whose studies are others, which no resumed training could repeat.
    """

    def __init__(self, settings: DefenseConfig, threat: Threat) -> None:
        super().__init__(settings, threat)
        assert settings.replays is not None
        self.replays = settings.replays
        self._changes: dict[int, Tensor] = {}  # number of the part -> (B, D)

    def backward(self, lesson: Lesson) -> Losses:
        """See ``Defense``."""
        space = self._space(lesson)
        if space is None:
            return self._learn(lesson, space, lesson.batch)
        if lesson.replay == 0:
            self._changes[lesson.part] = space.uniform(lesson.generator())
        x = space.project(space.clean + self._changes[lesson.part]).requires_grad_()
        losses = self._learn(lesson, space, lesson.given(space.split(x)))
        assert x.grad is not None
        assert self.settings.step is not None
        self._changes[lesson.part] = climbed(space, x.detach(), x.grad, self.settings.step) - space.clean
        return losses
