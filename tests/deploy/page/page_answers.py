"""Models that do not exist and what they answer."""

from __future__ import annotations

from typing import Any

MODELS: list[dict[str, Any]] = [
    {
        "name": "breast",
        "study": "busbra",
        "modalities": {
            "left": {"kind": "image", "channels": 1, "size": [32, 32]},
            "right": {"kind": "image", "channels": 1, "size": [32, 32]},
            "clinical": {
                "kind": "tabular",
                "channels": 4,
                "size": None,
                "columns": [
                    {"name": "age", "kind": "numeric"},
                    {"name": "site", "kind": "categorical", "categories": ["outer", "inner"]},
                ],
            },
        },
        "tasks": {
            "pathology": {"kind": "binary", "classes": ["benign", "malignant"]},
            "birads": {"kind": "ordinal", "classes": ["2", "3", "4", "5"]},
        },
        "alpha": 0.1,
        "calibrated": True,
        "sets": True,
        "foreign": True,
        "noise": None,
        "explains": ["layer_cam", "occlusion"],
        "research_use_only": True,
    },
    {
        "name": "chest",
        "study": "chest-ct",
        "modalities": {"ct": {"kind": "volume", "channels": 1, "size": [8, 32, 32]}},
        "tasks": {"findings": {"kind": "multilabel", "classes": ["nodule", "effusion", "fracture"]}},
        "alpha": 0.05,
        "calibrated": True,
        "sets": True,
        "foreign": True,
        "noise": {"kind": "mean", "draws": 10, "seed": None},
        "explains": ["layer_cam"],
        "research_use_only": True,
    },
    {
        "name": "omics",
        "study": "omics",
        "modalities": {
            "rna": {
                "kind": "tabular",
                "channels": 60,
                "size": None,
                "columns": [{"name": f"ENSG{k}", "kind": "numeric"} for k in range(60)],
            }
        },
        "tasks": {"subtype": {"kind": "multiclass", "classes": ["luminal", "basal"]}},
        "alpha": None,
        "calibrated": False,
        "sets": False,
        "foreign": False,
        "noise": None,
        "explains": [],
        "research_use_only": True,
    },
]

FULL = {
    "pathology": {"benign": 0.137, "malignant": 0.863},
    "birads": {"2": 0.02, "3": 0.09, "4": 0.52, "5": 0.37},
    "subtype": {"luminal": 0.9996, "basal": 0.0004},
    "findings": {"nodule": 0.91, "effusion": 0.48, "fracture": 0.0002},
}
LESS = {
    "pathology": {"benign": 0.585, "malignant": 0.415},
    "birads": {"2": 0.04, "3": 0.21, "4": 0.45, "5": 0.30},
}
SETS: dict[str, Any] = {
    "pathology": ["malignant"],
    "birads": ["4", "5"],
    "findings": {"present": ["nodule"], "undecided": ["effusion"]},
}


def prediction(model: str, given: set[str], study: str, without: bool) -> dict[str, Any]:
    """Return the answer of /v1/predict.

    Args:
        model: Its name.
        given: The modalities of the study.
        study: Its identifier.
        without: Whether each modality is left out in turn.
    """
    spec = next(one for one in MODELS if one["name"] == model)
    absent = [name for name in spec["modalities"] if name not in given]
    tasks = {
        name: {
            "predicted": "nodule" if name == "findings" else max(FULL[name], key=lambda label: FULL[name][label]),
            "probabilities": FULL[name],
            **({"set": SETS[name], "answered": name != "birads"} if name in SETS else {}),
        }
        for name in spec["tasks"]
    }
    foreign: dict[str, Any] = {name: {"p": 0.4, "alarm": False, "findings": []} for name in given}
    if "right" in foreign:
        foreign["right"] = {"p": 0.004, "alarm": True, "findings": ["sharper than the images of training"]}
    odd = ["rna: ENSG1 is 20 standard deviations or more from the mean of training"] if model == "omics" else []
    answer = {
        "model": model,
        "study": {"id": study, "absent": absent, "foreign": foreign, "warnings": odd, "tasks": tasks},
        "alpha": spec["alpha"],
        "seconds": 0.04,
    }
    if without:
        answer["without"] = {
            name: {task: (LESS if name == "left" else FULL)[task] for task in spec["tasks"]} for name in sorted(given)
        }
    return answer
