"""The audit of a run's measurement: each attacker at the middle level, on some of the studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from mailnet.attacks import Objective, Threat
from mailnet.attacks.randomness import NoiseUse
from mailnet.bundle import Predictor
from mailnet.data.progress import progress
from mailnet.data.study import StudyData
from mailnet.robustness.attack.state import State
from mailnet.robustness.attack.studies import known_labels, read_batch
from mailnet.robustness.audit.audit import PARTS, run_audit
from mailnet.robustness.audit.bench import TooFewStudies
from mailnet.training.device import seed_of

OFFERED = 512  # of which the audit takes those that are answered rightly, as many as it needs


def audit_tasks(
    predictor: Predictor,
    data: StudyData,
    rows: np.ndarray,
    threat: Threat,
    attacked: Sequence[tuple[str, ...]],
    *,
    sources: Sequence[nn.Module],
    draws: int,
    noise: NoiseUse | None,
    seed: int,
    batch_size: int,
    state: State,
    straight_through: bool,
) -> dict[str, dict[str, Any]]:
    """Return by tasks attacked together, joined by `` + ``, what ``Audit.as_dict`` gives.

    Where too few studies are answered rightly ``passed`` is None, and ``why`` says so.

    Args:
        predictor: The model.
        data: The studies.
        rows: Positions of those that are attacked.
        threat: At the middle level.
        attacked: Tasks that are attacked together, one group after the other.
        sources: Other networks, of which attacks are carried over.
        draws: Of a random network, averaged by each gradient.
        noise: How the network is met, None where it draws nothing.
        seed: Of the choice of studies and of the audit.
        batch_size: Studies in one forward pass.
        state: Where finished audits are kept.
        straight_through: Whether gradients pass through clips.
    """
    found: dict[str, dict[str, Any]] = {}
    with progress("Auditing", PARTS * len(attacked)) as advance:
        for number, tasks in enumerate(attacked):
            kept = state.note(f"audit-{number}")
            if kept is None:
                able = known_labels(data, tasks)[:, rows].any(0)
                able &= np.any([data.present[name][rows] for name in threat.eps], axis=0)
                order = np.random.default_rng(seed_of(seed, "audit", number)).permutation(rows[able])
                batch = read_batch(data, np.sort(order[:OFFERED]), predictor.device)
                try:
                    kept = run_audit(predictor.model, batch, threat, Objective(tasks=tasks), draws=draws,
                                     sources=sources,
                                     seed=seed, advance=advance, noise=noise or "sample",
                                     together=batch_size, straight_through=straight_through).as_dict()  # fmt: skip
                except TooFewStudies as error:
                    kept = {"passed": None, "failed": [], "checks": [], "studies": 0, "why": str(error)}
                state.keep_note(f"audit-{number}", kept)
            else:
                advance(PARTS, before=True)
            found[" + ".join(tasks)] = kept
    return found


def audit_reasons(audits: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each audit that failed."""
    return [
        f"the audit of {name} failed: {', '.join(audit['failed'])}"
        for name, audit in audits.items()
        if audit["passed"] is False
    ]
