"""Mean and spread of several runs, as a table for a document."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mailnet.errors import RunError
from mailnet.files import read_json

METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "macro_auroc": "macro AUROC",
}


def compare(
    runs: Mapping[str, Sequence[str | Path]], *, metrics: Mapping[str, str] = METRICS, modalities: bool = False
) -> str:
    """Return a Markdown table of evaluated runs: a row for each network and task, mean ± standard deviation over seeds.

    Args:
        runs: Label of a network -> its run folders, one a seed.
        metrics: Key in ``evaluation.json`` -> heading of its column.
        modalities: Also a row for each modality alone and each left out.

    Raises:
        RunError: A run has not been evaluated, or runs of one network differ in study, split, studies or options, or
            share a seed.
    """
    lines = [
        "| " + " | ".join(["network", "task", "inputs", "studies", "seeds", *metrics.values()]) + " |",
        "|" + "|".join(["---"] * 3 + ["---:"] * (2 + len(metrics))) + "|",
    ]
    for label, folders in runs.items():
        results = [_read(Path(folder)) for folder in folders]
        _check_alike(label, results)
        tables = [_rows(result, modalities) for result in results]
        for task, inputs in tables[0]:
            several = [table[task, inputs] for table in tables]
            cells = [_spread([found["metrics"].get(key) for found in several]) for key in metrics]
            first = [label, task, inputs, str(several[0]["n"]), str(len(several))]
            lines.append("| " + " | ".join(first + cells) + " |")
    return "\n".join(lines) + "\n"


def _read(run: Path) -> dict[str, Any]:
    if not (run / "evaluation.json").is_file():
        raise RunError("has not been evaluated", file=run, remedy=f"Run 'mailnet evaluate {run}' first")
    return dict(read_json(run / "evaluation.json"))


def _check_alike(label: str, results: Sequence[Mapping[str, Any]]) -> None:
    if not results:
        raise RunError(f"'{label}' has no run", remedy="Give at least one run folder")
    for what, of in (
        ("study", lambda r: r["study"]),
        ("split", lambda r: r["split"]),
        ("number of studies", lambda r: {task: found["n"] for task, found in r["tasks"].items()}),
        ("network", lambda r: (r["model"]["name"], r["model"]["options"])),
    ):
        if any(of(result) != of(results[0]) for result in results):
            raise RunError(f"the runs of '{label}' differ in {what}", remedy="Compare them under labels of their own")
    seeds = [result["model"]["seed"] for result in results]
    if len(set(seeds)) < len(seeds):
        raise RunError(
            f"two runs of '{label}' have the same seed ({seeds})", remedy="Train each with a seed of its own"
        )


def _rows(result: Mapping[str, Any], modalities: bool) -> dict[tuple[str, str], Mapping[str, Any]]:
    rows: dict[tuple[str, str], Mapping[str, Any]] = {}
    for task, found in result["tasks"].items():
        rows[task, "all"] = found
        # In the unpaired regime every study has one modality, and "alone" is what the first row says.
        apart = modalities and not result["modalities"]["by_nature"]
        for group, words in (("only", "{} alone"), ("without", "without {}")) if apart else ():
            for name, of in result["modalities"][group].items():
                if task in of:
                    rows[task, words.format(name)] = of[task]
    return rows


def _spread(estimates: Sequence[Mapping[str, float] | None]) -> str:
    values = [estimate["value"] for estimate in estimates if estimate is not None]
    if not values or len(values) < len(estimates):
        return "-"
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"
