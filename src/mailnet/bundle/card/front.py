"""The metadata at the head of a card, as the Hugging Face Hub reads it.

Source: modelcard.md of the Hub's documentation (huggingface/hub-docs): keys, and which of them ``model-index`` needs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from mailnet.bundle.card.facts import SPLIT, Facts
from mailnet.bundle.card.text import clean, value_of

# Metric -> its name on the Hub, where it has one there, and for readers.
METRICS = {
    "balanced_accuracy": ("balanced_accuracy", "Balanced accuracy"),
    "accuracy": ("accuracy", "Accuracy"),
    "macro_f1": ("f1", "Macro F1"),
    "macro_auroc": ("roc_auc", "Macro AUROC"),
    "macro_auprc": ("average_precision", "Macro AUPRC"),
    "label_accuracy": ("label_accuracy", "Label accuracy"),
    "mean_absolute_error": ("mae", "Mean absolute error"),
    "quadratic_kappa": ("cohen_kappa", "Quadratic kappa"),
    "ece": ("ece", "Calibration error (ECE)"),
    "adaptive_ece": ("adaptive_ece", "Adaptive calibration error"),
    "brier": ("brier_score", "Brier score"),
    "nll": ("log_loss", "Log loss (NLL)"),
}
OURS = ("library_name", "pipeline_tag", "tags", "metrics", "model-index")
LICENSE = "unknown"  # the Hub's word for a licence that nobody has stated yet


def front_matter(facts: Facts, kept: Mapping[str, Any]) -> str:
    """Return the metadata as YAML between its two lines of dashes.

    Args:
        facts: Of the model.
        kept: Metadata of the card before; what is not written here, such as the licence, stays.
    """
    theirs = {str(key): value for key, value in kept.items() if key not in OURS}
    task = "image-classification" if facts.pixels else "tabular-classification"
    tags = ["mailnet", "medical", *(["multimodal"] if len(facts.values["modalities"]) > 1 else [])]
    old = kept.get("tags")
    values: dict[str, Any] = {
        "license": theirs.pop("license", LICENSE),
        **theirs,
        "library_name": "mailnet",
        "pipeline_tag": task,
        "tags": tags + [tag for tag in (old if isinstance(old, list) else []) if tag not in tags],
    }
    if results := _results(facts, task):
        values["metrics"] = list(dict.fromkeys(metric["type"] for one in results for metric in one["metrics"]))
        name = clean(f"{facts.values['study']} {facts.values['model']['name']}")
        values["model-index"] = [{"name": name, "results": results}]
    # Wide lines: a folded text could have a line of dashes, which would end the metadata.
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=10**6)
    return f"---\n{text}---\n"


def slug(name: str) -> str:
    """Return a name as an identifier.

    >>> slug("Head phantoms: 2"), slug("---")
    ('head-phantoms-2', 'study')
    """
    return re.sub(r"[^a-z0-9]+", "-", clean(name).lower()).strip("-") or "study"


def _results(facts: Facts, task: str) -> list[dict[str, Any]]:
    if facts.evaluation is None:
        return []
    study = str(facts.values["study"])
    found = []
    for name, one in facts.evaluation["tasks"].items():
        metrics = [
            {"type": kind, "name": label, "value": value}
            for key, (kind, label) in METRICS.items()
            if (value := value_of(one["metrics"].get(key))) is not None
        ]
        if metrics:
            # Several tasks of one data set are told apart by its configuration, as the Hub does.
            dataset = {"type": slug(study), "name": clean(study), "config": clean(name), "split": SPLIT}
            found.append({"task": {"type": task, "name": clean(name)}, "dataset": dataset, "metrics": metrics})
    return found
