"""The table of every study's probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mailnet.data.study import StudyData


def prediction_table(data: StudyData, probabilities: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return one row a study.

    Args:
        data: The studies.
        probabilities: Task -> (N, K).

    Returns:
        ``row`` (of the manifest, counted from 1), ``id``, ``split``, ``group``, per subgroup column
        ``subgroup:<column>``, per modality ``has:<modality>``, and per task ``label:<task>`` (-1 unknown; of a
        multilabel task ``label:<task>:<class>``, NaN unknown) and ``prob:<task>:<class>``.
    """
    columns: dict[str, Any] = {"row": data.frame["row"].to_numpy()}
    columns |= {name: data.frame[name].astype(str).to_numpy() for name in ("id", "split", "group")}
    for column in data.config.subgroups:
        columns[f"subgroup:{column}"] = data.frame[f"subgroup:{column}"].astype(str).to_numpy()
    columns |= {f"has:{name}": present for name, present in data.present.items()}
    for task, spec in data.tasks.items():
        if spec.kind == "multilabel":
            columns |= {f"label:{task}:{name}": data.labels[task][:, k] for k, name in enumerate(spec.classes)}
        else:
            columns[f"label:{task}"] = data.labels[task]
        columns |= {f"prob:{task}:{name}": probabilities[task][:, k] for k, name in enumerate(spec.classes)}
    return pd.DataFrame(columns)
