"""What 'mailnet corrupt' prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mailnet.cli.output import print_table, say
from mailnet.cli.summary import Rows, cell


def print_damage(result: Mapping[str, Any], folder: Path) -> None:
    """Print balanced accuracy under damage, worst first, and with a modality missing or swapped; say where it lies."""
    for title, columns, rows in damage_tables(result):
        print_table(title, columns, rows)
    if not result["swapped"] and not result["missing"]:
        say("No tested study has two modalities, so none can be missing or another patient's.")
    say(f"Written: {folder / 'corruptions.json'}")


def damage_tables(result: Mapping[str, Any]) -> list[Rows]:
    """Return title, columns and rows of each table."""
    tables: list[Rows] = []
    severities = [str(severity) for severity in result["settings"]["severities"]]
    reference = result["reference"]
    for modality, tasks in result["modalities"].items():
        for task, found in tasks.items():
            against = None if reference is None else reference["modalities"][modality].get(task)
            columns = ["balanced accuracy", *(f"severity {s}" for s in severities), "mean error", "mean loss"]
            rows = [["clean", *[_short(found["clean"]["balanced_accuracy"])] * len(severities),
                     cell(found["clean"]["error"]), "-"]]  # fmt: skip
            for kind, of in worst_first(found["kinds"]):
                values = [_short(of["severities"][s]["balanced_accuracy"]) for s in severities]
                rows.append([kind, *values, cell(of["error"]), _loss(of, found)])
            mean = [""] * len(severities)
            loss = _signed(cell(found["mean_loss"]))
            rows.append(["mean corruption error", *mean, cell(found["mean_corruption_error"]), loss])
            if against is not None:
                columns.append(f"over {reference['run']}")
                ratios = [against["kinds"][kind] for kind, _ in worst_first(found["kinds"])]
                for row, ratio in zip(rows, [None, *ratios, against["mean_corruption_error"]], strict=True):
                    row.append(cell(ratio))
            title = f"{task}, {modality} damaged ({found['n']} {result['split']} studies)"
            tables.append((title, columns, rows))
    return tables + _whole_tables(result)


def worst_first(kinds: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return kinds by falling error."""
    return sorted(kinds.items(), key=lambda item: -(item[1]["error"] or {"value": 0})["value"])


def _whole_tables(result: Mapping[str, Any]) -> list[Rows]:
    columns = [
        "modality",
        "n",
        "as it is",
        "missing",
        "another patient's",
        "loss if swapped",
        "confidence",
        "answer stays",
    ]
    tasks = list(dict.fromkeys(task for of in result["missing"].values() for task in of))
    tables: list[Rows] = []
    for task in tasks:
        rows = []
        for name in result["missing"]:
            missing, swapped = result["missing"][name].get(task), result["swapped"].get(name, {}).get(task)
            if missing is None:
                continue
            row = [name, str(missing["n"]), cell(missing["clean"]["balanced_accuracy"]),
                   cell(missing["missing"]["balanced_accuracy"])]  # fmt: skip
            if swapped is None:
                rows.append([*row, "-", "-", "-", "-"])
                continue
            sure = f"{swapped['confidence_clean']:.2f} -> {swapped['confidence_swapped']:.2f}"
            rows.append([*row, cell(swapped["swapped"]["balanced_accuracy"]), cell(swapped["loss"]), sure,
                         f"{swapped['same_answer']:.0%}"])  # fmt: skip
        tables.append((f"{task}, balanced accuracy with a modality missing or swapped", columns, rows))
    return tables


def _short(estimate: Mapping[str, float] | None) -> str:
    return "-" if estimate is None else f"{estimate['value']:.3f}"


def _signed(text: str) -> str:
    return text if text.startswith("-") else f"+{text}"


def _loss(of: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    before, after = found["clean"]["error"], of["error"]
    return "-" if before is None or after is None else f"{after['value'] - before['value']:+.3f}"
