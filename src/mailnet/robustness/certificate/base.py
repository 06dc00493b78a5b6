"""The base classifier that smoothing asks: a run's network, whose inputs are clipped, with its own noise or without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from mailnet.bundle import Predictor
from mailnet.nn.heads import probabilities
from mailnet.nn.noise import OF_WEIGHTS, NoiseKind, get_noise, set_noise
from mailnet.specs import TaskSpec

BaseNoise: TypeAlias = Literal["sample", "off"]


@dataclass(frozen=True)
class Question:
    """What is certified: a task, or one class of a task that has a yes or no for each.

    Args:
        name: ``task``, or ``task: class``.
        task: The task.
        column: Of the class in a multilabel task; None else.
        classes: What an answer may be.
    """

    name: str
    task: str
    column: int | None
    classes: tuple[str, ...]

    def labels(self, labels: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return (N,) int labels of the question, -1 unknown, from those of a study's tasks."""
        own = labels[self.task]
        if self.column is None:
            return own
        column = own[:, self.column]
        return np.where(np.isfinite(column), column, -1).astype(np.int64)

    def answers(self, found: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return (N,) int answers from task -> (N, K) probabilities."""
        own = found[self.task]
        chosen: np.ndarray = own.argmax(1) if self.column is None else (own[:, self.column] > 0.5).astype(np.int64)
        return chosen


def find_questions(tasks: Mapping[str, TaskSpec], chosen: Sequence[str]) -> list[Question]:
    """Return the questions of the chosen tasks."""
    found = []
    for name in chosen:
        spec = tasks[name]
        if spec.kind == "multilabel":
            found += [Question(f"{name}: {label}", name, k, ("no", "yes")) for k, label in enumerate(spec.classes)]
        else:
            found.append(Question(name, name, None, spec.classes))
    return found


class BaseClassifier:
    """Answers questions about noisy copies of one study.

    Every copy must be judged independently. A random network therefore draws numbers of its own for each copy; where
    weights are random, as filters are, which are drawn once a forward pass, only one copy is judged at a time.

    Args:
        predictor: The model.
        questions: What is asked.
        noise: ``sample``: a random network draws afresh; ``off``: its additive noise is zero and its filters are fixed.
            Networks that are not random have no choice.
    """

    def __init__(self, predictor: Predictor, questions: Sequence[Question], noise: BaseNoise) -> None:
        self.predictor, self.questions = predictor, list(questions)
        self.noise: BaseNoise | None = noise if get_noise(predictor.model) is not None else None
        self.singly = self.noise == "sample" and bool(_kinds_drawn(predictor) & set(OF_WEIGHTS))

    def start(self, generator: torch.Generator) -> None:
        """Let a random network draw from a generator from now on."""
        if self.noise is not None:
            set_noise(self.predictor.model, self.noise, generator=generator, shared=False)

    @torch.inference_mode()
    def __call__(self, noisy: dict[str, Tensor]) -> dict[str, np.ndarray]:
        """Return question -> (N,) answers.

        Args:
            noisy: Modality -> (N, ...), images with noise; they are clipped to [0, 1].
        """
        specs = self.predictor.modalities
        inputs = {name: x if specs[name].kind == "tabular" else x.clamp(0, 1) for name, x in noisy.items()}
        logits = self.predictor.model(inputs)
        found = {name: probabilities(spec, logits[name].float()).cpu().numpy()
                 for name, spec in self.predictor.tasks.items()}  # fmt: skip
        return {question.name: question.answers(found) for question in self.questions}


@torch.inference_mode()
def _kinds_drawn(predictor: Predictor) -> set[str]:
    """Return for what a random network draws numbers in a forward pass."""
    found: set[str] = set()
    source = set_noise(predictor.model, "sample", generator=torch.Generator().manual_seed(0))
    draw = source.draw

    def noted(kind: NoiseKind, *given: Any, **named: Any) -> Tensor:
        found.add(kind)
        return draw(kind, *given, **named)

    # The source is of this pass alone, and what layers ask it for is nowhere else to be seen.
    source.draw = noted  # type: ignore[method-assign]
    predictor.model(
        {
            name: torch.zeros(1, spec.channels, *(spec.size or ()), device=predictor.device)
            for name, spec in predictor.modalities.items()
        }
    )
    return found
