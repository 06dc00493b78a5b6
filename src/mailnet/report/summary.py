"""What the report says of the data and the model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mailnet.data.config import PixelConfig, StudyConfig
from mailnet.data.wording import input_in_words, values_in_words
from mailnet.report.words import count, listing, magnitude, plural

LISTED = 20


@dataclass(frozen=True)
class BadStudies:
    """Images, or rows without any, that could not be used for one reason: how many, which, and what would mend them."""

    n: int
    rows: str
    place: str
    remedy: str


@dataclass(frozen=True)
class DataSummary:
    """Tables of the data section; cells are text, counts are numbers or None."""

    sentence: str
    modality_columns: list[str]
    modalities: list[list[str]]
    splits: list[str]
    classes: dict[str, list[tuple[str, list[int | None]]]]
    bad: list[BadStudies]
    bad_total: int


def summarise_data(config: StudyConfig, data: Mapping[str, Any], trained_on: str | None = None) -> DataSummary:
    """Return the data section from data.json; what that lacks is left open.

    Args:
        config: The study that was evaluated.
        data: data.json.
        trained_on: Name of the study that the model was trained on, where it is another.
    """
    studies: Mapping[str, Any] = data.get("studies", {})
    splits, bad = list(studies), data.get("bad") or []
    reasons: dict[tuple[str, str], list[int]] = defaultdict(list)
    for one in bad:
        reasons[str(one.get("modality") or "-"), str(one.get("remedy") or "-")].append(one["row"])
    return DataSummary(
        sentence=_sentence(config, studies, trained_on),
        modality_columns=["kind", "input", "values in the file", *splits],
        modalities=[_modality(config, data, name, splits) for name in config.modalities],
        splits=splits,
        classes={
            task: [(c, [_at(data, "tasks", task, s, c) for s in splits]) for c in spec.class_values]
            for task, spec in config.tasks.items()
            if splits
        },
        bad=[
            BadStudies(len(rows), _rows(rows), place, remedy)
            for (place, remedy), rows in sorted(reasons.items(), key=lambda item: -len(item[1]))
        ],
        bad_total=len(bad),
    )


def _rows(rows: list[int]) -> str:
    named = [f"row {row}" for row in rows[:LISTED]]
    return listing(named) if len(rows) <= LISTED else f"{', '.join(named)}, ..."


def summarise_model(config: StudyConfig, record: Mapping[str, Any], counts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return names and values of the model section.

    Args:
        config: The study, which names network, options and seed where the evaluation does not.
        record: run.json.
        counts: What evaluation.json holds under ``model``.
    """
    facts = [
        ("Network", counts.get("name", config.model.name)),
        ("Parameters", magnitude(counts.get("trainable", record.get("parameters")))),
    ]
    if "macs" in counts:
        facts.append(("Multiply-adds (MACs)", f"{magnitude(counts['macs'])} a study; papers often call these FLOPs"))
        facts.append(("FLOPs", f"{magnitude(counts['flops'])} a study (two a multiply-add)"))
    facts += [(f"Option {key}", _plain(value)) for key, value in counts.get("options", config.model.options).items()]
    if "device" in record:
        facts.append(("Trained on", f"{record['device']}, {record.get('precision')}, torch {record.get('torch')}"))
    if noise := counts.get("noise"):
        facts.append(("Noise while evaluated", f"{noise['mode']}, {plural(int(noise['draws']), 'draw')}"))
    seed = counts.get("seed", config.train.seed)
    return facts if seed is None else [*facts, ("Training seed", str(seed))]


def _sentence(config: StudyConfig, studies: Mapping[str, Any], trained_on: str | None) -> str:
    pairing = (
        "One row is one patient with all modalities, some of which may be absent."
        if config.regime == "paired"
        else "The modalities are unpaired: each is a data set of its own with its own patients and task."
    )
    how = (
        f"Not the study that the model was trained on, which is “{trained_on}”."
        if trained_on is not None
        else f"The split is given by the column “{config.split.column}”."
        if config.split.column
        else f"The split was drawn with seed {config.split.seed}"
        + (f", all rows of one “{config.group}” on one side." if config.group else ".")
    )
    sizes = listing([f"{count(n)} {split}" for split, n in studies.items()])
    return f"{sizes + ' studies. ' if sizes else ''}{pairing} {how}"


def _modality(config: StudyConfig, data: Mapping[str, Any], name: str, splits: list[str]) -> list[str]:
    spec = config.modalities[name]
    if isinstance(spec, PixelConfig):
        shape, inside = input_in_words(spec), values_in_words(spec)
    else:
        shape, inside = f"{_columns(spec.numeric)} numeric, {_columns(spec.categorical)} categorical", "-"
    return [name, spec.kind, shape, inside, *(count(_at(data, "modalities", name, "studies", s)) for s in splits)]


def _columns(names: list[str]) -> str:
    """Return how many columns are named, and the patterns, which stand for any number of them.

    >>> _columns(["age", "crp", "ENSG*"]), _columns([])
    ('2 + ENSG*', '0')
    """
    patterns = [name for name in names if "*" in name or "?" in name]
    plain = len(names) - len(patterns)
    return " + ".join([*([str(plain)] if plain or not patterns else []), *patterns])


def _at(values: Any, *keys: str) -> Any:
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values


def _plain(value: Any) -> str:
    if not isinstance(value, list | tuple):
        return str(value)
    # Of the members of an ensemble their names.
    return ", ".join(str(v["name"]) if isinstance(v, Mapping) and "name" in v else str(v) for v in value)
