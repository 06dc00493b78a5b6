"""``tables.md``, ``tables.json`` and the plots of a suite, from the cells' files alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mailnet.benchmark.attack_tables import attack_sections
from mailnet.benchmark.differences import SEED_DRAWS
from mailnet.benchmark.markdown import interval, spread, table
from mailnet.benchmark.plots import write_plots
from mailnet.benchmark.results import read_results
from mailnet.benchmark.suite import Suite
from mailnet.benchmark.summary import METRICS, summarise
from mailnet.files import write_json, write_text

HEADINGS = {
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "macro_auroc": "AUROC",
    "ece": "ECE",
}


def write_tables(suite: Suite, out: str | Path) -> Path:
    """Write the tables and plots; needs the cells and the studies' files, and none of their data.

    Args:
        suite: The suite.
        out: The benchmark's folder.

    Returns:
        The Markdown file.

    Raises:
        ConfigError: A study's file is wrong.
        RunError: A cell cannot be read, or a file not written.
    """
    folder = Path(out)
    results = read_results(suite, folder)
    summary = summarise(results)
    write_json(folder / "tables.json", summary)
    write_text(folder / "tables.md", markdown(summary, write_plots(summary, results, folder)))
    return folder / "tables.md"


def markdown(summary: Mapping[str, Any], plots: Sequence[str]) -> str:
    """Return the tables as Markdown.

    Args:
        summary: Of ``summarise``.
        plots: Names of image files beside it.
    """
    parts = [f"# {summary['suite']}"]
    if summary["description"]:
        parts.append(summary["description"])
    parts.append(_method(summary))
    if summary["notes"]:
        parts += ["## What is missing", "\n".join(f"- {note}" for note in summary["notes"])]
    parts += ["## Ranks over data sets", *_ranks(summary["ranks"], summary["reference"])]
    for name, ranks in summary["groups"].items():
        parts += [f"### Ranks: {name}", *_ranks(ranks, summary["reference"])]
    if summary["record"]:
        parts += [f"## Against {summary['reference']}, study by study", *_record(summary)]
    for study, found in summary["studies"].items():
        parts.append(f"## {study}")
        parts.append(_network_table(found["networks"], summary["baseline"]))
        for task, rows in found["tasks"].items():
            differences = {d["network"]: d for d in summary["differences"] if (d["study"], d["task"]) == (study, task)}
            parts += [f"### {study}: {task}", *_task_tables(rows, differences, summary)]
        overall = [d for d in summary["differences"] if d["study"] == study and d["task"] not in found["tasks"]]
        if overall:
            parts += [f"### {study}: mean of tasks", _overall_table(overall, summary)]
    parts += attack_sections(summary.get("attacks", {}), summary["reference"])
    parts += [f"![{Path(plot).stem}]({plot})" for plot in plots]
    return "\n\n".join(parts) + "\n"


def _method(summary: Mapping[str, Any]) -> str:
    metric = HEADINGS[summary["metric"]]
    machines = "; ".join(", ".join(f"{key} {value}" for key, value in each.items()) for each in summary["machines"])
    text = (
        f"Mean ± standard deviation over seeds ({', '.join(str(seed) for seed in summary['seeds'])}) on the test "
        f"studies; epoch and tuning chosen on the validation studies. The primary metric is {metric}. Made with: "
        f"{machines}."
    )
    if summary["reference"] is not None:
        text += (
            f" Differences are a network minus {summary['reference']}, in {metric}, with a 95% interval: each draw "
            "takes patients with replacement, the same for both networks, and of each network its seeds with "
            f"replacement ({SEED_DRAWS} times), and averages over these; few seeds understate their own spread. "
            "**Bold**: the interval excludes 0. Intervals are not corrected for their number."
        )
    return text


def _network_table(networks: Mapping[str, Any], baseline: str | None) -> str:
    ratio = [] if baseline is None else [f"latency to {baseline}, 1 / 32"]
    columns = ["network", "seeds", "parameters", "MACs", "ms at batch 1 / 32", *ratio, "training s", "epochs", "tuned"]
    rows = [
        [
            name,
            str(found["seeds"]),
            _millions(found["parameters"]),
            _millions(found["macs"]),
            _both(found["latency_ms"], "{:.1f}"),
            *([] if baseline is None else [_both(found["ratio"], "{:.2f}")]),
            f"{found['seconds']:.0f}",
            _epochs(found),
            ", ".join(f"{key} {value}" for key, value in found["tuned"].items()) or "-",
        ]
        for name, found in networks.items()
    ]
    return table(columns, rows)


def _task_tables(rows: Mapping[str, Any], differences: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    first = next(iter(rows.values()))
    patients = "" if first["groups"] is None else f" of {first['groups']} patients"
    against = [] if summary["reference"] is None else [f"minus {summary['reference']}"]
    best = sorted(rows, key=lambda name: -(rows[name][summary["metric"]] or {"mean": -1.0})["mean"])
    measured = table(
        ["network", *(HEADINGS[metric] for metric in METRICS), *against],
        [
            [name, *(spread(rows[name][metric]) for metric in METRICS)]
            + [interval(differences.get(name)) for _ in against]
            for name in best
        ],
    )
    found = [f"{first['n']} test studies{patients}.", measured]
    modalities = list(dict.fromkeys(modality for row in rows.values() for modality in row["only"]))
    if modalities:
        alone = [
            [name, *(_number(rows[name]["only"].get(modality)) for modality in modalities)]
            for name in best
            if rows[name]["only"]
        ]
        found += [
            f"{HEADINGS[summary['metric']].capitalize()} of the same networks with one modality alone:",
            table(["network", *modalities], alone),
        ]
    return found


def _overall_table(differences: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> str:
    rows = [[d["network"], interval(d)] for d in sorted(differences, key=lambda d: -d["value"])]
    return table(["network", f"minus {summary['reference']}"], rows)


def _record(summary: Mapping[str, Any]) -> list[str]:
    rows = [
        [name, *(str(found[key]) for key in ("better", "worse", "undecided"))]
        for name, found in summary["record"].items()
    ]
    return [
        "Studies on which a network is better or worse in the mean of tasks, its interval without 0, and the others:",
        table(["network", "better", "worse", "undecided"], rows),
    ]


def _ranks(ranks: Mapping[str, Any] | None, reference: str | None) -> list[str]:
    if ranks is None:
        return ["Two networks that answer every task of two studies are needed."]
    test = ranks["friedman"]
    f = "infinite" if test["f"] is None else f"{test['f']:.2f}"
    rows = [
        [name, f"{place:.2f}", f"{mean:.4f}", *(f"{scores[k]:.4f}" for scores in ranks["scores"])]
        for k, (name, place, mean) in enumerate(
            zip(ranks["networks"], ranks["mean_ranks"], ranks["mean_scores"], strict=True)
        )
    ]
    compared = f"with {reference}" if reference in ranks["networks"] else "of every two networks"
    return [
        f"{len(ranks['studies'])} data sets, {len(ranks['networks'])} networks; a data set counts once, its tasks "
        "averaged, and only seeds count that all of them have. "
        f"Friedman: chi-squared {test['chi2']:.2f}, p = {test['p']:.3g}; Iman-Davenport: F = {f}, "
        f"p = {test['p_f']:.3g}. Nemenyi's critical difference of mean ranks at "
        f"{ranks['level']:.0%}: {ranks['critical_difference']:.2f}.",
        table(["network", "mean rank", "mean", *ranks["studies"]], rows),
        f"Wilcoxon's signed ranks over data sets, {compared}, corrected for the number of these comparisons (Holm):",
        table(
            ["networks", "p", "p corrected"],
            [[" / ".join(pair["networks"]), f"{pair['p']:.3g}", f"{pair['holm']:.3g}"] for pair in ranks["pairs"]],
        ),
    ]


def _epochs(found: Mapping[str, Any]) -> str:
    if found["epochs"] is None:
        return "-"
    lowered = found["wanted_epochs"] is not None and found["epochs"] < found["wanted_epochs"]
    return f"{found['epochs']} of {found['wanted_epochs']}" if lowered else str(found["epochs"])


def _millions(value: float | None) -> str:
    return "-" if value is None else f"{value / 1e6:.2f} M"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _both(found: Mapping[str, float] | None, form: str) -> str:
    return "-" if found is None else " / ".join(form.format(value) for value in found.values())
