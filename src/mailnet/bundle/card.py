"""The model card: what a model is for, what it was trained on, and what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mailnet.data.config import ImageConfig, VolumeConfig
from mailnet.data.wording import input_in_words, values_in_words


def model_card(values: Mapping[str, Any], parameters: int, counts: Mapping[str, Any] | None) -> str:
    """Return the card as Markdown.

    Args:
        values: Contents of the bundle's ``config.json``.
        parameters: Number of parameters.
        counts: Split -> number of studies, where known.
    """
    model = values["model"]
    options = ", ".join(f"{key}={value}" for key, value in model["options"].items()) or "defaults"
    studies = ", ".join(f"{count} {split}" for split, count in (counts or {}).items()) or "not recorded"
    inputs = [f"* `{spec['name']}`: {_input(spec, values['preprocessing'][spec['name']])}"
              for spec in values["modalities"]]  # fmt: skip
    tasks = [f"* `{spec['name']}` ({spec['kind']}): {', '.join(spec['classes'])}" for spec in values["tasks"]]
    absent = (
        "Each modality is a data set of its own: a study has one, and the others count as absent."
        if values["regime"] == "unpaired"
        else "A modality may be absent in a study; accuracy is then lower, see the run's report for how much."
    )
    return "\n".join(
        [
            f"# {values['study']}: {model['name']}",
            "",
            "**For research use; not a medical device.** No regulatory body has assessed this model.",
            "",
            f"* Network: `{model['name']}` ({options}), {parameters:,} parameters, mailnet {values['mailnet']}",
            f"* Studies: {studies}",
            "",
            "## What it takes",
            "",
            *inputs,
            "",
            absent,
            "",
            "## What it answers",
            "",
            *tasks,
            "",
            "## Intended use and limits",
            "",
            "Research on data like those it was trained on. Accuracy on other scanners, sites, populations or file",
            "processing is unknown until it is measured there",
            "(`mailnet evaluate RUN --study OTHER/study.yaml --split all --out RESULTS`).",
            "Probabilities are not calibrated. It answers on any image that fits the declared format, also on one of",
            "another organ. It holds no patient data; categories and statistics of table columns are kept.",
            "",
            "## Use",
            "",
            "    mailnet predict THIS_FOLDER studies.csv --out predictions.csv",
            "",
        ]
    )


def _input(spec: Mapping[str, Any], section: Mapping[str, Any]) -> str:
    if spec["kind"] == "tabular":
        return f"columns {', '.join(section['numeric'] + section['categorical'])}"
    pixels = (VolumeConfig if spec["kind"] == "volume" else ImageConfig).model_validate(section)
    # Tables to predict name their columns as the one of training did.
    column = section["column"] or spec["name"]
    how = "" if pixels.kind == "volume" and pixels.spacing else f", {pixels.resize}"
    return f"column {column}, {spec['kind']}, {input_in_words(pixels)}{how}, values: {values_in_words(pixels)}"
