"""How unsure a network is, and which part of that its draws or its ensemble disagree about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mailnet.specs import TaskSpec
from mailnet.trust.arrays import Array, as_questions, read_answers, read_probabilities


@dataclass(frozen=True)
class Uncertainty:
    """The uncertainty of each study, in nats; of a multilabel task that of each label.

    Args:
        mean: (N, K) probabilities averaged over draws: the prediction.
        total: (N,) or (N, K), entropy of the mean.
        aleatoric: The same shape, mean entropy of the draws: what stays with any number of draws, as of a study that
            can be read either way.
        epistemic: The same shape, total less aleatoric: the mutual information of answer and draw, high where draws are
            sure of different answers, as on studies unlike those of training.
        variation: The same shape, share of draws that give another answer than most do.

    Source: Gal 2016; Depeweg et al. 2018; variation ratio: Freeman 1965.
    """

    mean: Array
    total: Array
    aleatoric: Array
    epistemic: Array
    variation: Array


def measure_uncertainty(draws: Array, spec: TaskSpec) -> Uncertainty:
    """Divide the uncertainty of S draws of a random network, or S networks, into its parts.

    Args:
        draws: (S, N, K) probabilities, each as a prediction by itself.
        spec: The task; an ordinal one is treated as one whose classes have no order.

    Raises:
        ValueError: Another shape, or no probabilities.
    """
    given = np.asarray(draws)
    if given.ndim != 3 or not len(given):
        raise ValueError(f"task '{spec.name}': draws must be (S, N, K), one or more, got {given.shape}")
    each = np.stack([read_probabilities(one, spec) for one in given])
    mean = each.mean(0)
    asked = np.stack([as_questions(one, spec) for one in each])
    total = entropy(as_questions(mean, spec))
    aleatoric = entropy(asked).mean(0)
    votes = np.eye(asked.shape[-1])[answers_of(asked)].mean(0)
    # Rounding may bring the difference of two equal entropies below zero.
    parts = total, aleatoric, np.maximum(total - aleatoric, 0.0), 1 - votes.max(-1)
    return Uncertainty(mean, *(part if spec.kind == "multilabel" else part[:, 0] for part in parts))


def entropy(probabilities: Array) -> Array:
    """Return -sum p log p along the last axis, in nats, with 0 log 0 = 0.

    >>> entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).round(4).tolist()
    [0.6931, 0.0]
    """
    logs = np.log(np.where(probabilities > 0, probabilities, 1.0))
    return np.asarray(np.abs((probabilities * logs).sum(-1)))


def answers_of(questions: Array) -> Array:
    """Return the answer (...) to each question (..., C): the most probable, the first of equal ones.

    Of a label at exactly one half that is absent, as everywhere in mailnet.
    """
    return np.asarray(questions.argmax(-1))


def confidence_of(probabilities: Array, spec: TaskSpec) -> Array:
    """Return the probability of the answer given: (N,), or for multilabel (N, K) of each label.

    Raises:
        ValueError: No probabilities.
    """
    top = as_questions(read_probabilities(probabilities, spec), spec).max(-1)
    return np.asarray(top if spec.kind == "multilabel" else top[:, 0])


def wrong_of(probabilities: Array, labels: Array, spec: TaskSpec) -> Array:
    """Return 1 where the answer given is wrong, 0 where it is right, NaN where the label is unknown.

    Args:
        probabilities: (N, K).
        labels: (N,) with -1, or for multilabel (N, K) with NaN, where unknown.
        spec: The task.

    Returns:
        (N,), or for multilabel (N, K).

    Raises:
        ValueError: Wrong shapes or values.
    """
    values = read_probabilities(probabilities, spec)
    truth = read_answers(labels, spec, len(values))
    said = answers_of(as_questions(values, spec))
    wrong = np.where(truth < 0, np.nan, (said != truth).astype(float))
    return wrong if spec.kind == "multilabel" else wrong[:, 0]
