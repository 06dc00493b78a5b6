"""Reads the files of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mailnet.data.config import StudyConfig, load_config
from mailnet.errors import RunError
from mailnet.files import read_json

if TYPE_CHECKING:
    import pandas as pd

# The newest evaluation.json that is understood.
FORMAT = 1


@dataclass(frozen=True)
class RunFiles:
    """What a run left behind; parts that it may lack are empty or None.

    Args:
        config: The resolved study.yaml.
        config_text: The same as written.
        evaluation: evaluation.json.
        data: data.json.
        epochs: metrics.jsonl, a dict an epoch.
        predictions: predictions.parquet, a row a study.
        record: run.json: how training ran and how it ended.
        check: check.json, where ``mailnet check`` wrote one here.
    """

    config: StudyConfig
    config_text: str
    evaluation: dict[str, Any]
    data: dict[str, Any]
    epochs: list[dict[str, Any]]
    predictions: pd.DataFrame | None
    record: dict[str, Any]
    check: dict[str, Any] | None = None

    @property
    def split(self) -> str:
        """The split that was evaluated, or ``all``."""
        return str(self.evaluation.get("split", "test"))

    @property
    def trained_on(self) -> str | None:
        """Name of the study that the model was trained on, where another was evaluated."""
        return str(self.evaluation["model"]["trained_on"]) if self.evaluation.get("external") else None

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose weights were kept; None while training has not finished."""
        epoch = self.record.get("best", {}).get("epoch")
        return None if epoch is None else int(epoch)


def read_run(run: Path) -> RunFiles:
    """Read a run folder, or a folder that ``evaluate`` wrote its results to.

    Raises:
        RunError: It is no run, it has not been evaluated, or a file is damaged or of a newer mailnet.
    """
    study = run / "study.yaml"
    if not study.is_file():
        raise RunError(
            "is not a run: it has no study.yaml", file=run, remedy="Name a folder that 'mailnet train' wrote"
        )
    if not (run / "evaluation.json").is_file():
        raise RunError("has not been evaluated", file=run, remedy=f"Run 'mailnet evaluate {run}' first")
    evaluation = read_json(run / "evaluation.json")
    if int(evaluation.get("format", FORMAT)) > FORMAT:
        raise RunError(
            f"was written by a newer mailnet, {evaluation.get('mailnet')}",
            file=run / "evaluation.json",
            remedy="Update mailnet, or evaluate the run again",
        )
    return RunFiles(
        config=load_config(study),
        config_text=study.read_text(encoding="utf-8"),
        evaluation=evaluation,
        data=_optional(run / "data.json"),
        epochs=_lines(run / "metrics.jsonl"),
        predictions=_table(run / "predictions.parquet"),
        record=_optional(run / "run.json"),
        check=_optional(run / "check.json") or None,
    )


def _optional(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.is_file() else {}


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise RunError(f"is not valid JSON ({error})", file=path, remedy="Restore it or make the run again") from error


def _table(path: Path) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise RunError(f"is not valid Parquet ({error})", file=path, remedy="Evaluate the run again") from error
