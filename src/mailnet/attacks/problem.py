"""What an attack is given: a network, studies, what the attacker may change and wants, and the gradient of that."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias, cast, get_args

import torch
from torch import Tensor, nn

from mailnet.attacks.asked import Asked
from mailnet.attacks.clips import straight_through
from mailnet.attacks.layout import Layout, Precision, check_precision
from mailnet.attacks.objective import Objective, correct, labelled
from mailnet.attacks.randomness import NoiseUse, drawing, is_random
from mailnet.attacks.ranges import check_range
from mailnet.attacks.threat import Space, Threat
from mailnet.nn.batch import Batch
from mailnet.nn.noise import get_noise, mean_logits
from mailnet.nn.registry import Network
from mailnet.specs import TaskSpec

# Modality -> (B, ...) to the same, differentiable: what is done to the attacked inputs before the network sees them.
Transform: TypeAlias = Callable[[dict[str, Tensor]], dict[str, Tensor]]


class Problem:
    """Studies under attack. Rows (B, D) are what the attacker holds; ``space`` says which are allowed.

    Args:
        model: The network, in evaluation mode.
        batch: Studies with labels; all on the network's device.
        threat: What may be changed.
        objective: What is wanted.
        draws: Forward passes of a random network whose losses and gradients are averaged (expectation over
            transformation); 1 for others.
        generator: Where a random network's numbers come from.
        noise: How a random network is met: ``sample`` fresh numbers at every pass; ``frozen`` the same ``draws`` of
            them at every question, a network whose seed is known; ``off`` none, as ``mailnet.nn.noise`` has it.
        sure: A study is broken only where it is at every one of the fresh draws, not already where their mean is:
            attacks that stop at broken studies go on until a random network is wrong nearly always.
        straight_through: Clipping lets gradients pass (backward pass differentiable approximation), see
            ``straight_through``.
        precision: ``fp32``, or ``bf16`` for a faster search: the network computes in bfloat16 where autocast has it do
            so, and what a network that is not random seems to answer wrongly is asked again in full precision, so that
            nothing counts as broken by rounding.

    Raises:
        ValueError: A threat or objective that does not fit the network, a network in training mode, an image outside
            [0, 1], a table outside its box, studies that have none of the attacked modalities, an unknown ``noise`` or
            ``precision``, or draws of a network that is not random.

    Source: Athalye, Carlini, Wagner, "Obfuscated gradients give a false sense of security", ICML 2018.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Batch,
        threat: Threat,
        objective: Objective | None = None,
        *,
        draws: int = 1,
        generator: torch.Generator | None = None,
        noise: NoiseUse = "sample",
        sure: bool = False,
        straight_through: bool = False,
        precision: Precision = "fp32",
    ) -> None:
        check_precision(precision)
        if noise not in get_args(NoiseUse):
            raise ValueError(f"noise '{noise}' is not one of {', '.join(get_args(NoiseUse))}")
        if model.training:
            raise ValueError("the network is in training mode; put it into evaluation mode first")
        if draws < 1:
            raise ValueError(f"draws must be at least 1, got {draws}")
        self.model = model
        self.tasks: dict[str, TaskSpec] = cast("Network", model).tasks
        self.objective = objective or Objective()
        self.source = get_noise(model)
        self.random = self.source is not None or (
            (draws > 1 or noise != "sample") and is_random(model, batch.inputs, batch.present)
        )
        if not self.random and (draws > 1 or noise != "sample"):
            raise ValueError(f"{type(model).__name__} draws no random numbers: draws=1, and nothing to freeze")
        threat.check(cast("Network", model).modalities)
        self.objective.check(self.tasks, batch.targets)
        check_range(batch, threat)
        self.batch = batch
        self.space = Space(batch.inputs, batch.present, threat)
        self.generator, self.sure, self.smooth = generator, sure, straight_through
        self.draws, self.noise, self.precision = draws, noise, precision
        self._check_noise()
        self.questions = torch.zeros(len(batch), dtype=torch.long)  # forward passes spent on each study
        self._rows, self._layout = torch.arange(len(batch)), Layout()

    def __len__(self) -> int:
        return len(self.space)

    def take(self, rows: Tensor) -> Problem:
        """Return some of the studies, (n,) positions or a mask, as a problem of their own; questions are counted here.

        A study that is broken already needs no further steps: attacks go on with the others.
        """
        rows = rows.to(self.space.clean.device)
        chosen = copy.copy(self)
        chosen.space, chosen.objective = self.space.take(rows), self.objective.take(rows)
        chosen.batch = Batch(
            {name: x[rows] for name, x in self.batch.inputs.items()},
            {name: here[rows] for name, here in self.batch.present.items()},
            {name: target[rows] for name, target in self.batch.targets.items()},
        )
        chosen._rows = self._rows[rows.cpu()]
        return chosen

    def with_objective(self, objective: Objective) -> Problem:
        """Return the same studies with another loss, other tasks or goals.

        Raises:
            ValueError: It does not fit the network.
        """
        objective.check(self.tasks, self.batch.targets)
        changed = copy.copy(self)
        changed.objective = objective
        return changed

    def with_draws(
        self, draws: int, *, noise: NoiseUse | None = None, generator: torch.Generator | None = None
    ) -> Problem:
        """Return the same studies put to a random network otherwise; what is None stays.

        Raises:
            ValueError: Several draws where all are alike.
        """
        changed = copy.copy(self)
        changed.draws, changed.noise = draws, noise or self.noise
        changed.generator = generator or self.generator
        changed._check_noise()
        return changed

    def with_precision(self, precision: Precision) -> Problem:
        """Return the same studies asked in another precision.

        Raises:
            ValueError: There is none of that name.
        """
        check_precision(precision)
        changed = copy.copy(self)
        changed.precision = precision
        return changed

    def enlarged(self, factor: float) -> Problem:
        """Return the same studies with balls of so many times the radius; boxes stay."""
        changed = copy.copy(self)
        changed.space = self.space.enlarged(factor)
        return changed

    def inputs(self, x: Tensor) -> dict[str, Tensor]:
        """Return what the network is given for rows (B, D): the others as they are."""
        return {**self.batch.inputs, **self.space.split(x)}

    def ask(self, x: Tensor, *, gradient: bool = True, transform: Transform | None = None) -> Asked:
        """Put rows (B, D) to the network; a random one ``draws`` times.

        Args:
            x: The rows.
            gradient: Whether the gradient is wanted.
            transform: Done to the attacked inputs at every draw; what is found to be broken is then the study so
                changed, not ``x``.
        """
        asked = self._ask(x, gradient, transform, self.precision)
        if self.precision == "fp32":
            return asked
        parts = [*asked.logits.values(), *([] if asked.gradient is None else [asked.gradient])]
        if not all(bool(part.isfinite().all()) for part in parts):
            return self._ask(x, gradient, transform, "fp32")
        if self.random and self.noise == "sample":  # its next draw says otherwise anyway
            return asked
        doubtful = asked.broken
        if self.objective.goals is not None:  # some attacks go towards one class and take any wrong one
            names = self.objective.attacked(self.tasks)
            right = [correct(self.tasks[name], asked.logits[name], self.batch.targets[name]) for name in names]
            doubtful = doubtful | ~torch.stack(right).all(0)
        rows = doubtful.nonzero()[:, 0]
        if not len(rows):
            return asked
        return asked.corrected(rows, self.take(rows)._ask(x[rows], False, transform, "fp32"))

    def _ask(self, x: Tensor, gradient: bool, transform: Transform | None, precision: Precision) -> Asked:
        total: Tensor | None = None
        losses, several = [], []
        with torch.set_grad_enabled(gradient), self._drawing(), straight_through(self.smooth and gradient):
            for _ in range(self.draws):
                point = x.detach().requires_grad_(gradient)
                given = self.inputs(point)
                if transform is not None:
                    given |= transform({name: given[name] for name in self.space.names})
                logits = self._layout.ask(self.model, given, self.batch.present, precision)
                loss = self.objective.losses(self.tasks, logits, self.batch.targets)
                if gradient:
                    (slope,) = torch.autograd.grad(loss.sum(), point)
                    total = slope if total is None else total + slope
                losses.append(loss.detach())
                several.append({name: value.detach() for name, value in logits.items()})
        self.questions.index_add_(0, self._rows, torch.full_like(self._rows, self.draws))
        logits = several[0] if self.draws == 1 else mean_logits(several, self.tasks)
        broken = self._broken(several, logits, self.objective)
        mean = None if total is None else total / self.draws
        return Asked(torch.stack(losses).mean(0), logits, broken, mean, several)

    def broken(self, asked: Asked, wanted: Objective) -> Tensor:
        """Return (B,) bool, whether the goal of another objective than the problem's is reached."""
        return self._broken(asked.each, asked.logits, wanted)

    def _broken(self, each: Sequence[dict[str, Tensor]], mean: dict[str, Tensor], wanted: Objective) -> Tensor:
        answers = each if self.sure and self.noise == "sample" else [mean]
        return torch.stack([wanted.broken(self.tasks, logits, self.batch.targets) for logits in answers]).all(0)

    def known(self) -> Tensor:
        """Return (T, B) bool, whether each attacked task has a label, in the order of the objective's tasks."""
        names = self.objective.attacked(self.tasks)
        return torch.stack([labelled(self.tasks[name], self.batch.targets[name]) for name in names])

    def standing(self, asked: Asked) -> Tensor:
        """Return (B,) bool, the studies that an attack can still gain: not broken, in its hands, of a known label."""
        return ~asked.broken & self.known().any(0) & self.space.free.any(1)

    def slopes(self, x: Tensor, functions: Callable[[dict[str, Tensor]], Tensor]) -> tuple[Tensor, Tensor]:
        """Return what several functions of the logits are at rows (B, D), and their gradients; means over draws.

        Whatever the precision, it is in full: who wants them looks for where a boundary is.

        Args:
            x: The rows.
            functions: From task -> logits (B, outputs) to (B, S).

        Returns:
            (B, S) and (B, S, D).
        """
        value, gradient = x.new_zeros(()), x.new_zeros(())
        with torch.enable_grad(), self._drawing(), straight_through(self.smooth):
            for _ in range(self.draws):
                point = x.detach().requires_grad_()
                found = functions(self._layout.ask(self.model, self.inputs(point), self.batch.present))
                columns = [torch.autograd.grad(one.sum(), point, retain_graph=True)[0] for one in found.unbind(1)]
                value = value + found.detach() / self.draws
                gradient = gradient + torch.stack(columns, 1) / self.draws
        self.questions.index_add_(0, self._rows, torch.full_like(self._rows, self.draws))
        return value, gradient

    def _drawing(self) -> AbstractContextManager[None]:
        return drawing(self.model, self.noise, self.generator) if self.random else nullcontext()

    def _check_noise(self) -> None:
        if self.draws > 1 and self.noise == "off":
            raise ValueError("all draws are alike with noise 'off': draws=1")
        if self.noise == "off" and self.source is None:
            raise ValueError(f"{type(self.model).__name__} has no noise that can be turned off")
