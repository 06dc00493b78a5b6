"""A trained network of a cell under the suite's attacks, and what of the result card the cell keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mailnet.benchmark.attack_entry import AttackEntry
from mailnet.robustness.attack.measure import measure_robustness

KEPT = ("suite", "norm", "precision", "random", "n", "groups", "alignment", "cells", "audit", "unreliable", "reasons",
        "seconds")  # fmt: skip


def attack_run(
    run: Path, name: str, entry: AttackEntry, *, data_root: Path | None, cache: Path | None
) -> dict[str, Any]:
    """Attack the test studies; one that was interrupted goes on.

    Args:
        run: Run folder.
        name: Of the attack in the suite.
        entry: Its options.
        data_root: Where the study's paths start.
        cache: Folder of decoded images.

    Raises:
        MailnetError: The attack does not fit the network.
    """
    card = measure_robustness(
        run,
        suite=entry.suite,
        norm=entry.norm,
        eps=entry.eps,
        studies=entry.at_most,
        modes=entry.modes,
        max_draws=entry.max_draws,
        repeats=entry.repeats,
        precision=entry.precision,
        audit=entry.audit,
        redraws=True,
        out=run / "attacks" / name,
        data_root=data_root,
        cache=cache,
    )
    return {key: card[key] for key in KEPT if key in card}
