"""Files of a made-up run, of which a model card is written."""

from __future__ import annotations

from typing import Any

from mailnet.data.config import ImageConfig


def config(classes: tuple[str, ...] = ("benign", "malignant"), name: str = "left") -> dict[str, Any]:
    """Contents of a bundle's config.json."""
    return {
        "mailnet": "0.1.0",
        "study": "Breasts",
        "regime": "paired",
        "model": {"name": "mail", "options": {"width": "nano"}},
        "modalities": [{"name": name, "kind": "image"}, {"name": "clinic", "kind": "tabular"}],
        "tasks": [{"name": "pathology", "kind": "binary", "classes": list(classes)}],
        "preprocessing": {
            name: ImageConfig().model_dump(mode="json"),
            "clinic": {"numeric": ["age"], "categorical": ["sex"]},
        },
    }


def estimate(value: float) -> dict[str, float]:
    """An estimate with an interval."""
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def evaluation(classes: tuple[str, ...] = ("benign", "malignant"), name: str = "left") -> dict[str, Any]:
    """Contents of an evaluation.json."""
    metrics = {
        "balanced_accuracy": estimate(0.71234),
        "macro_auroc": estimate(0.81),
        "ece": estimate(0.06),
        "nll": None,
    }
    measured = {"n": 60, "metrics": metrics}
    gap = {"value": 0.2, "low": 0.01, "high": 0.3, "chance": 0.04, "corrected": 0.12, "lowest": "F", "highest": "M",
           "smallest": 25, "left_out": {"X": "3 patients"}}  # fmt: skip
    return {
        "split": "test",
        "external": False,
        "n": 60,
        "created": "2026-03-01T12:00:00+00:00",
        "settings": {"bootstrap": 1000},
        "data": {"groups": 50},
        "model": {"noise": None},
        "tasks": {
            "pathology": measured
            | {
                "kind": "binary",
                "classes": list(classes),
                "per_class": {c: {"n": 30, "sensitivity": estimate(0.7), "precision": None} for c in classes},
            }
        },
        "subgroups": {"sex": {"F": {"pathology": measured | {"n": 12}}, "M": {"pathology": measured}}},
        "modalities": {"by_nature": False, "only": {name: {"pathology": measured}}, "without": {}},
        "gaps": {"sex": {"pathology": {"balanced_accuracy": gap}}},
        "selective": {"pathology": {"aurc": 0.1552, "excess": 0.107}},
    }
