"""Sections of a card that are true of a model before anything is measured: what it takes, answers and learned from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mailnet.bundle.card.facts import Facts
from mailnet.bundle.card.text import listing, percent, plain, prose, table
from mailnet.data.config import ImageConfig, VolumeConfig
from mailnet.data.wording import input_in_words, values_in_words

SPLITS = ("train", "val", "test")


def heading(facts: Facts) -> list[str]:
    """Return title, caution and what the model is."""
    model = facts.values["model"]
    options = ", ".join(f"{key}={_option(value)}" for key, value in model["options"].items()) or "defaults"
    size = "" if facts.parameters is None else f", {facts.parameters:,} parameters"
    measured = facts.evaluation
    when = f"; evaluated {plain(str(measured['created'])[:10])}" if measured and measured.get("created") else ""
    return [
        f"# {plain(facts.values['study'])}: {plain(model['name'])}",
        "",
        "**For research use; not a medical device.** No regulatory body has assessed this model.",
        "",
        f"Network {plain(model['name'])} ({plain(options)}){size}, trained with mailnet "
        f"{plain(facts.values['mailnet'])}{when}.",
        "",
    ]


def _option(value: Any) -> str:
    """Return an option as text; of the members of an ensemble, which are long, their names."""
    named = isinstance(value, list) and all(isinstance(one, Mapping) and "name" in one for one in value)
    return "+".join(str(one["name"]) for one in value) if value and named else str(value)


def intended_use(facts: Facts) -> list[str]:
    """Return what the model is for, and its limits."""
    return [
        "## Intended use and limits",
        "",
        "Research on data like those it was trained on. Not for diagnosis, nor for decisions on patients.",
        "",
        "* Accuracy on other scanners, sites, populations or file processing is unknown until it is measured there:",
        "  `mailnet evaluate RUN --study OTHER/study.yaml --split all --out RESULTS`.",
        f"* {_calibrated(facts)}",
        f"* {_foreign(facts)}",
        "* The bundle holds no patient data; categories and statistics of table columns are kept.",
        "",
    ]


def _foreign(facts: Facts) -> str:
    if facts.foreign is None:
        return "It answers on any image that fits the declared format, also on one of another organ."
    rate = f", and also {percent(facts.foreign['rate'])} of those like them" if "rate" in facts.foreign else ""
    return (
        "It answers on any image that fits the declared format. `mailnet predict` marks studies unlike those of "
        f"training{rate}; what it does not mark may still be foreign."
    )


def calibrated_tasks(facts: Facts) -> list[str]:
    """Return the tasks whose probabilities are calibrated."""
    return [task for task, one in facts.fitted.get("calibrators", {}).items() if one["method"] != "none"]


def _calibrated(facts: Facts) -> str:
    done = calibrated_tasks(facts)
    left = [spec["name"] for spec in facts.values["tasks"] if spec["name"] not in done]
    if not done:
        return "Probabilities are not calibrated: do not read them as chances."
    how = f"Probabilities of {listing([plain(name) for name in done])} are calibrated on validation studies"
    return f"{how}, those of {listing([plain(name) for name in left])} are not." if left else f"{how}."


def takes(facts: Facts) -> list[str]:
    """Return what the model takes and answers."""
    values = facts.values
    inputs = [
        f"* **{plain(spec['name'])}**: {_input(spec, values['preprocessing'][spec['name']])}"
        for spec in values["modalities"]
    ]
    tasks = [
        f"* **{plain(spec['name'])}** ({spec['kind']}): {', '.join(plain(name) for name in spec['classes'])}"
        for spec in values["tasks"]
    ]
    if values["regime"] == "unpaired":
        absent = "Each modality is a data set of its own: a study has one, and the others count as absent."
    elif len(values["modalities"]) > 1:
        absent = "A modality may be absent in a study; accuracy is then lower."
    else:
        absent = ""
    return [
        "## What it takes",
        "",
        *inputs,
        "",
        *([absent, ""] if absent else []),
        "## What it answers",
        "",
        *tasks,
        "",
    ]


def _input(spec: Mapping[str, Any], section: Mapping[str, Any]) -> str:
    if spec["kind"] == "tabular":
        return f"columns {', '.join(plain(name) for name in section['numeric'] + section['categorical'])}"
    pixels = (VolumeConfig if spec["kind"] == "volume" else ImageConfig).model_validate(section)
    # Tables to predict name their columns as the one of training did.
    column = plain(section["column"] or spec["name"])
    how = "" if pixels.kind == "volume" and pixels.spacing else f", {pixels.resize}"
    shape, inside = plain(input_in_words(pixels)), plain(values_in_words(pixels))
    return f"column {column}, {spec['kind']}, {shape}{how}, values: {inside}"


def data(facts: Facts) -> list[str]:
    """Return what it was trained on, in counts."""
    lines = ["## Data", ""]
    if facts.description:
        lines += [prose(facts.description), ""]
    if facts.source:
        lines += [f"Source: {prose(facts.source)}", ""]
    lines += [
        "The licence of the data is not recorded here; it may bind the model too. The metadata's `license` is the "
        "model's and for whoever passes it on to state.",
        "",
    ]
    counts = facts.data.get("studies", {})
    splits = [split for split in SPLITS if split in counts]
    if not splits:
        return [*lines, "How many studies it was trained on is not recorded.", ""]
    rows = [["studies", *(f"{counts[split]:,}" for split in splits)]]
    for name, one in facts.data.get("modalities", {}).items():
        rows.append([f"with {plain(name)}", *(_count(one["studies"].get(split)) for split in splits)])
    for task, by in facts.data.get("tasks", {}).items():
        names = list(dict.fromkeys(name for split in splits for name in by.get(split, {})))
        rows += [
            [f"{plain(task)}: {plain(name)}", *(_count(by.get(split, {}).get(name)) for split in splits)]
            for name in names
        ]
    return [*lines, *table(["", *splits], rows)]


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "-"


def use() -> list[str]:
    """Return how the model is used."""
    return [
        "## Use",
        "",
        "    mailnet predict THIS_FOLDER studies.csv --out predictions.csv",
        "",
        "```python",
        "import mailnet",
        "",
        'predictor = mailnet.load("THIS_FOLDER")',
        'predictor.predict("studies.csv").to_frame()',
        "```",
        "",
    ]
