"""Puts the report together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import Any

from mailnet.bundle.card import write_card
from mailnet.data.config import ROBUST, StudyConfig
from mailnet.files import write_text
from mailnet.report import words
from mailnet.report.absent import read_absent
from mailnet.report.cautions import FEW_CASES, find_cautions
from mailnet.report.certificate import render_certificate
from mailnet.report.check import render_check
from mailnet.report.damage import render_damage
from mailnet.report.examples import find_examples
from mailnet.report.explanations import render_explanations
from mailnet.report.figures import Figure, TaskFigures, task_figures
from mailnet.report.files import RunFiles, read_run
from mailnet.report.history import History, loss_chart, read_history, score_chart
from mailnet.report.reliability import render_reliability
from mailnet.report.results import SMALL_GROUP, Row, TaskResult, read_results
from mailnet.report.robustness import render_robustness
from mailnet.report.summary import summarise_data, summarise_model

# SVG dash patterns of the legend, as charts.DASHES draws them.
LEGEND_DASHES = ("none", "6 3", "2 3", "7 2.5 2 2.5", "11 4", "3.5 2.5", "8 2 2 2 2 2", "2 4")
CLASS_COLUMNS = (("sensitivity", "Sensitivity"), ("specificity", "Specificity"), ("precision", "Precision (PPV)"),
                 ("f1", "F1"), ("auroc", "AUROC"), ("auprc", "AUPRC"))  # fmt: skip
PERCENT_COLUMNS = ("sensitivity", "specificity", "precision")


@dataclass(frozen=True)
class TaskView:
    """One task as the page shows it."""

    result: TaskResult
    whole: words.Estimate | None
    fusion_sentence: str
    class_columns: list[tuple[str, str]]
    class_sentence: str
    curves: TaskFigures | None


def write_report(
    run: Path, out: Path | None = None, *, data_root: str | Path | None = None, cache: str | Path | None = None
) -> Path:
    """Write the report of an evaluated run as one HTML file that loads nothing from elsewhere.

    Where it lies in the run, the model card of the run's bundle is written anew too.

    Args:
        run: Folder that training and evaluation wrote.
        out: The HTML file; ``report.html`` in the run when left out.
        data_root: Where the study's images lie now, when they have moved since training.
        cache: Folder of decoded images.

    Returns:
        The file written.

    Raises:
        RunError: The folder is no run, has not been evaluated, or a file in it is damaged.
    """
    run, target = Path(run), Path(out) if out is not None else Path(run) / "report.html"
    files = read_run(run)
    results = read_results(files.evaluation, files.predictions)
    examples = find_examples(files.config, results, files.predictions, data_root, cache)
    check = None if files.check is None else render_check(files.check)
    sections = {"check": check, "reliability": render_reliability(files.evaluation),
                 "damage": render_damage(run), "certificate": render_certificate(run),
                "robustness": render_robustness(run, files.config),
                "explanations": render_explanations(run)}  # fmt: skip
    write_text(target, _render(_context(files, results) | {"examples": examples, **sections}))
    # Attacks, damage and explanations come after the evaluation. What was measured elsewhere leaves the card as it is.
    if out is None and files.split == "test" and files.trained_on is None:
        write_card(run)
    return target


def _render(context: dict[str, Any]) -> str:
    import jinja2
    from markupsafe import Markup

    folder = resources.files("mailnet.report")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    helpers: dict[str, Any] = {"number": words.number, "interval": words.interval, "count": words.count, "axis": _axis,
                               "place": _place}  # fmt: skip
    environment.globals.update(helpers)
    template = environment.from_string((folder / "page.html").read_text(encoding="utf-8"))
    return template.render(css=Markup((folder / "page.css").read_text(encoding="utf-8")), **context)


def _context(files: RunFiles, results: list[TaskResult]) -> dict[str, Any]:
    from mailnet import __version__

    config, evaluation = files.config, files.evaluation
    history = read_history(files.epochs, config.train.monitor, config.train.epochs, files.best_epoch)
    model = summarise_model(config, files.record, evaluation.get("model", {}))
    return {
        "config": config,
        "config_text": files.config_text,
        "model": model,
        "model_name": dict(model)["Network"],
        "parameters": dict(model)["Parameters"],
        "n": evaluation.get("n"),
        "split": files.split,
        "evaluated": str(evaluation.get("created", ""))[:10],
        "written": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "version": __version__,
        "tasks": [_task(result, config) for result in results],
        "has_subgroups": any(rows for result in results for rows in result.subgroups.values()),
        "absent": read_absent(evaluation, results),
        "fusion_lead": _fusion_lead(config.regime, len(config.modalities), results),
        "cautions": find_cautions(
            config, files.split, files.data, results, history, external=files.trained_on is not None
        ),
        "intervals": _intervals(
            evaluation.get("settings", {}).get("bootstrap", config.evaluation.bootstrap), config.group
        ),
        "glossary": list(dict.fromkeys(metric for result in results for metric in result.shown)),
        "history": _history(history, len(results)),
        "data": summarise_data(config, files.data, files.trained_on),
        "trained_on": files.trained_on,
        "percent_columns": PERCENT_COLUMNS,
        "dashes": LEGEND_DASHES,
        "few": FEW_CASES,
        "small_group": SMALL_GROUP,
    }


def _task(result: TaskResult, config: StudyConfig) -> TaskView:
    curves = task_figures(result, config.evaluation.bins)
    return TaskView(
        result=result,
        whole=result.metrics.get(result.headline.key),
        fusion_sentence=_fusion_sentence(result) if config.regime == "paired" else "",
        class_columns=[pair for pair in CLASS_COLUMNS if any(c.measures.get(pair[0]) for c in result.per_class)],
        class_sentence=_class_sentence(result),
        curves=curves,
    )


def _class_sentence(result: TaskResult) -> str:
    text = (
        "Sensitivity is the share of a class's studies that are found; specificity the share of the others that are "
        "left alone."
    )
    found = [(e.value, c.name) for c in result.per_class if c.n and (e := c.measures.get("sensitivity")) is not None]
    if len(found) > 2:
        low, high = min(found), max(found)
        text += (
            f" Best found is “{high[1]}” ({words.number(high[0], percent=True)}), worst “{low[1]}” "
            f"({words.number(low[0], percent=True)})."
        )
    return text


def _fusion_lead(regime: str, modalities: int, results: list[TaskResult]) -> str:
    if modalities == 1:
        return "The study has one modality, so there is nothing to fuse."
    if not any(len(result.fusion) > 1 for result in results):
        return "This evaluation did not try the modalities alone or left out, so the gain from fusion is not known."
    if regime == "unpaired":
        return (
            "This study is unpaired: every tested study has one modality, and its prediction rests on that alone. What "
            "modalities give each other here happens in training, not in one patient; the rows below cannot show it."
        )
    return (
        "The same trained network on the same studies, with modalities hidden from it: each alone, each left out. A "
        "network trained for one modality only may do better than this one with the others hidden."
    )


def _fusion_sentence(result: TaskResult) -> str:
    percent = result.headline.percent
    whole = next((row.value for row in result.fusion if row.kind == "all"), None)
    alone = [(row.value, row.label) for row in result.fusion if row.kind == "only" and row.value is not None]
    if whole is None or len(alone) < 2:
        return ""
    best, name = max(alone, key=lambda pair: pair[0].value)
    text = (
        f"All modalities together reach {words.number(whole.value, percent)}, {name}, the best single one, "
        f"{words.number(best.value, percent)}: "
    )
    gain = abs(whole.value - best.value)
    more = f"{100 * gain:.1f} points" if percent else f"{gain:.3f}"
    if whole.value <= best.value:
        return text + "fusion gives nothing here."
    if whole.low is not None and best.high is not None and whole.low <= best.high:
        return text + f"{more} more, but the intervals overlap."
    apart = "" if whole.low is None else ", and the intervals do not overlap"
    return text + f"fusion gives {more} more{apart}."


def _intervals(draws: int, group: str | None) -> str:
    if not draws:
        return "No intervals were computed (evaluation.bootstrap is 0)."
    what = f"groups of equal “{group}”" if group else "studies"
    return f"Intervals are 95% bootstrap intervals from {draws:,} redraws of the tested {what}."


def _history(history: History | None, tasks: int) -> dict[str, Any] | None:
    if history is None:
        return None
    plain = history.monitor.removeprefix(ROBUST)
    label = words.BY_KEY[plain].label if plain in words.BY_KEY else "Loss"
    if plain != history.monitor:
        label = f"Robust {label.lower()}"
    figures = [Figure("Loss", loss_chart(history), "Validation rising while training falls means learning by heart.")]
    if history.monitor != "loss":
        sentence = "The weights kept are those of the dashed line."
        figures.append(Figure(f"{label} (validation)", score_chart(history, label), sentence))
    text = (
        f"{len(history.epochs)} of {history.planned} epochs were trained; the weights of epoch {history.best} were "
        f"kept, the best by {label.lower()}{', mean over the tasks,' if tasks > 1 else ''} on the validation studies "
        f"({words.number(history.at_best(history.score))}), marked by the dashed line."
    )
    return {"sentence": text, "figures": figures}


def _axis(rows: Sequence[Row]) -> tuple[float, float, list[float]]:
    """Return the ends of the axis of a comparison and its ticks."""
    estimates = [row.value for row in rows if row.value is not None]
    lowest = min((e.value if e.low is None else e.low for e in estimates), default=0.0)
    low = max(0.0, math.floor(lowest * 10) / 10)
    low = low if low < 0.9 else 0.8
    return low, 1.0, [low, (low + 1) / 2, 1.0]


def _place(value: float, low: float, high: float) -> float:
    return round(100 * min(1.0, max(0.0, (value - low) / (high - low))), 2)
