"""The metrics with every combination of modalities present and absent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from mailnet.data.study import StudyData
from mailnet.errors import ConfigError
from mailnet.evaluation.hiding import Answers, Hidden, show_only
from mailnet.evaluation.tables import Measure, hidden_table

MOST = 6


def plan_combinations(data: StudyData) -> list[Hidden]:
    """Return every combination of modalities, largest first, each on the studies that have at least these.

    Of more than six modalities: all together, each left out, and each alone.

    Raises:
        ConfigError: There is one modality, or the regime is unpaired, so that nothing can be absent.
    """
    names = list(data.modalities)
    if len(names) == 1 or data.config.regime == "unpaired":
        what = "the study has one modality" if len(names) == 1 else "in the unpaired regime a study has one modality"
        raise ConfigError(f"{what}, so there are no combinations", remedy="Evaluate without --absent")
    sizes = range(len(names), 0, -1) if len(names) <= MOST else (len(names), len(names) - 1, 1)
    return [show_only(data, shown) for size in sizes for shown in combinations(names, size)]


def absent_table(data: StudyData, plan: Sequence[Hidden], answers: Answers, measured: Measure) -> dict[str, Any]:
    """Return what the model reaches with each combination of modalities.

    A combination is measured on all studies that have at least these modalities, the others being hidden. As these are
    more studies the fewer modalities there are, and perhaps easier ones, ``same_studies`` holds the same for the
    studies that have every modality, where values can be compared.

    Args:
        data: The studies.
        plan: From ``plan_combinations``.
        answers: From ``predict_hidden``.
        measured: Measures a task.

    Returns:
        ``modalities``; ``whole``, whether every combination is there; ``complete``, the number of studies with every
        modality; ``occurring``, the combinations as they are in the data, each with ``present`` and ``n``, commonest
        first; ``combinations``, each with ``present``, ``n``, and by task ``metrics`` and ``n`` under ``tasks`` and
        ``same_studies``.
    """
    names = list(data.modalities)
    complete = show_only(data, names).rows
    patterns = Counter(map(tuple, np.stack([data.present[name] for name in names], axis=1).tolist()))
    rows = []
    for hidden in plan:
        same = Hidden(hidden.without, complete)
        rows.append(
            {
                "present": [name for name in names if name not in hidden.without],
                "n": len(hidden.rows),
                "tasks": _short(hidden_table(data, hidden, answers, measured)),
                "same_studies": _short(hidden_table(data, same, answers, measured)),
            }
        )
    return {
        "modalities": names,
        "whole": len(plan) == 2 ** len(names) - 1,
        "complete": len(complete),
        "occurring": [
            {"present": [name for name, has in zip(names, pattern, strict=True) if has], "n": count}
            for pattern, count in sorted(patterns.items(), key=lambda item: (-item[1], item[0]))
        ],
        "combinations": rows,
    }


def _short(table: dict[str, Any]) -> dict[str, Any]:
    return {task: {key: found[key] for key in ("n", "metrics", "small")} for task, found in table.items()}
