"""How foreign a study is by what the network answers alone, without anything fitted; higher is more foreign."""

from __future__ import annotations

import numpy as np

from mailnet.specs import TaskSpec
from mailnet.trust.arrays import Array
from mailnet.trust.uncertainty import confidence_of


def energy(logits: Array, spec: TaskSpec) -> Array:
    """Return the energy of each study: minus the logarithm of the summed exponentials of its logits (Liu et al. 2020).

    Outputs that are sigmoids, of multilabel and ordinal tasks, are questions with the logits z / 2 and -z / 2 each, and
    their energies are summed. Wang et al. 2021 take 0 and z instead, by which a study without any finding, or of the
    lowest grade, would be the most foreign of all. Energy can't be had from probabilities, which know no sum.

    Args:
        logits: (N, outputs), as the network gives them.
        spec: The task.

    Returns:
        (N,).

    Raises:
        ValueError: Another shape, or NaN or infinity.
    """
    values = _read_logits(logits, spec)
    if spec.kind in ("multilabel", "ordinal"):
        return np.asarray(-np.logaddexp(values / 2, -values / 2).sum(1))
    return np.asarray(-np.logaddexp.reduce(values, axis=1))


def max_logit(logits: Array, spec: TaskSpec) -> Array:
    """Return minus the highest logit (N,) (Hendrycks et al. 2022), where outputs are sigmoids the highest of z and -z.

    Raises:
        ValueError: Another shape, or NaN or infinity.
    """
    values = _read_logits(logits, spec)
    return np.asarray(-(np.abs(values) if spec.kind in ("multilabel", "ordinal") else values).max(1))


def unsureness(probabilities: Array, spec: TaskSpec) -> Array:
    """Return one minus the probability of the answer (N,) (Hendrycks and Gimpel 2017), of the least sure label.

    Raises:
        ValueError: No probabilities.
    """
    sure = confidence_of(probabilities, spec)
    return np.asarray(1 - (sure.min(1) if sure.ndim == 2 else sure))


def _read_logits(logits: Array, spec: TaskSpec) -> Array:
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != spec.outputs:
        raise ValueError(f"task '{spec.name}': logits must be (N, {spec.outputs}), got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"task '{spec.name}': logits hold NaN or infinity; look for a network that diverged")
    return values
