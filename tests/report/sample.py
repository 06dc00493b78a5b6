"""A run as training and evaluation leave it, made up but with the numbers of a believable study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from sklearn import metrics as sk

PATHOLOGY = ("normal", "calcified lesion", "oedema", "tumour", "infarct")
GRADE = ("benign", "malignant")
MODALITIES = ("mri", "ct", "spect")
FINDINGS = ("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax",
            "consolidation", "emphysema", "fibrosis", "pleural thickening with calcification")  # fmt: skip
SEVERITY = ("none", "mild", "moderate", "severe")
COUNTS = {"trainable": 1_234_567, "macs": 81_000_000, "flops": 162_000_000}
SECRET = "PATIENT-4711-MUELLER"


def make_run(
    folder: Path, *, n: int = 400, seed: int = 0, images: bool = True, classes: tuple[str, ...] = PATHOLOGY
) -> Path:
    """Write a run of two tasks, three modalities and a subgroup; one study's id is ``SECRET``."""
    rng = np.random.default_rng(seed)
    run, data = folder / "run", folder / "data"
    run.mkdir(parents=True)
    data.mkdir()
    frame = _manifest(rng, n, classes)
    if images:
        _images(rng, data, frame, classes)
    frame.to_csv(data / "studies.csv", index=False)
    _json(run / "study.yaml", _config(data, classes))
    test = frame[frame["split"] == "test"].reset_index(names="row")
    predictions, evaluation = _evaluation(rng, test, classes)
    predictions.to_parquet(run / "predictions.parquet")
    _json(run / "evaluation.json", evaluation)
    _json(run / "data.json", _data(frame, classes))
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in _epochs(rng)))
    best = {"epoch": 16, "monitor": "balanced_accuracy", "value": 0.84, "loss": 0.42}
    _json(
        run / "run.json", {"status": "finished", "device": "cpu", "precision": "fp32", "torch": "2.6.0", "best": best}
    )
    return run


def make_findings_run(folder: Path, n: int = 300) -> Path:
    """Write a run of an unpaired study with a multilabel and an ordinal task, an image and a table; images are gone."""
    rng = np.random.default_rng(0)
    run = folder / "run"
    run.mkdir(parents=True)
    config = {
        "name": "Chest findings",
        "manifest": "gone.csv",
        "regime": "unpaired",
        "modalities": {"radiograph": {"size": 64}, "clinical": {"kind": "tabular", "numeric": ["age"]}},
        "tasks": {
            "findings": {"kind": "multilabel", "classes": list(FINDINGS)},
            "severity": {"kind": "ordinal", "classes": list(SEVERITY)},
        },
        "train": {"monitor": "macro_auroc"},
    }
    truth = (rng.random((n, 12)) < np.linspace(0.3, 0.03, 12)).astype(float)
    probability = np.clip(truth * 0.25 + rng.beta(2, 5, (n, 12)), 0, 1)
    truth[rng.random(truth.shape) < 0.1] = np.nan
    level = rng.choice(4, n)
    graded = _probability(rng, level, 4, 2.0)
    frame = pd.DataFrame(
        {"row": range(1, n + 1), "split": "test", "id": [f"P{k:05d}" for k in range(n)], "label:severity": level}
    )
    frame[[f"label:findings:{c}" for c in FINDINGS]] = truth
    frame[[f"prob:findings:{c}" for c in FINDINGS]] = probability
    frame[[f"prob:severity:{c}" for c in SEVERITY]] = graded
    whole = _measures(level, graded)
    whole["metrics"]["quadratic_kappa"] = _estimate(0.71, 0.05)
    areas = {"macro_auroc": _estimate(0.78, 0.03), "macro_auprc": _estimate(0.41, 0.04), "ece": _estimate(0.05, 0.01)}
    known = [np.isfinite(truth[:, k]) for k in range(12)]
    tasks = {
        "findings": {
            "kind": "multilabel",
            "classes": list(FINDINGS),
            "n": n,
            "metrics": areas,
            "per_class": {
                c: _per_class(truth[i, k] == 1, probability[i, k] > 0.5, probability[i, k])
                for k, (c, i) in enumerate(zip(FINDINGS, known, strict=True))
            },
        },
        "severity": {
            "kind": "ordinal",
            "classes": list(SEVERITY),
            "per_class": {
                c: _per_class(level == k, graded.argmax(1) == k, graded[:, k]) for k, c in enumerate(SEVERITY)
            },
            "confusion": sk.confusion_matrix(level, graded.argmax(1)).tolist(),
            **whole,
        },
    }
    alone = {"radiograph": {"findings": {"n": n, "metrics": areas}}, "clinical": {"severity": whole}}
    _json(run / "study.yaml", config)
    _json(run / "evaluation.json", {"split": "test", "n": n, "tasks": tasks, "modalities": {"only": alone}})
    frame.to_parquet(run / "predictions.parquet")
    return run


def _manifest(rng: np.random.Generator, n: int, classes: tuple[str, ...]) -> pd.DataFrame:
    truth = rng.choice(len(classes), n, p=[0.4, 0.2, 0.17, 0.15, 0.08])
    frame = pd.DataFrame(
        {
            "patient": [f"P{k:05d}" for k in range(n)],
            "split": rng.choice(["train", "val", "test"], n, p=[0.4, 0.1, 0.5]),
            "scanner": rng.choice(["Alpha 1.5T", "Beta 3T", "Gamma"], n, p=[0.5, 0.42, 0.08]),
            "pathology": [classes[k] for k in truth],
            "grade": [GRADE[int(rng.random() < (0.8 if k == 3 else 0.15))] for k in truth],
        }
        | {m: [f"{m}/{k}.png" for k in range(n)] for m in MODALITIES}
    )
    frame.loc[frame.index[frame["split"] == "test"][:3], "patient"] = [SECRET, SECRET + "-B", SECRET + "-C"]
    return frame


def _images(rng: np.random.Generator, data: Path, frame: pd.DataFrame, classes: tuple[str, ...]) -> None:
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    head = (x**2 / 0.6 + y**2 / 0.85) < 1
    for m in MODALITIES:
        (data / m).mkdir()
    for row, name in enumerate(frame["pathology"]):
        kind = classes.index(name)
        cx, cy = rng.uniform(-0.35, 0.35, 2)
        lesion = ((x - cx) ** 2 + (y - cy) ** 2) < rng.uniform(0.02, 0.06)
        for m, level, noise, gain in zip(MODALITIES, (0.45, 0.3, 0.5), (0.04, 0.06, 0.12), ((0, 0, 0.3, 0.25, 0.05),
                                         (0, 0.6, 0, 0.05, 0), (0, 0, 0, 0.4, -0.35)), strict=True):  # fmt: skip
            image = head * level + lesion * head * gain[kind] + rng.normal(0, noise, head.shape)
            Image.fromarray((255 * np.clip(image, 0, 1)).astype(np.uint8)).save(data / m / f"{row}.png")


def _config(data: Path, classes: tuple[str, ...]) -> dict[str, Any]:
    return {
        "name": "Head phantoms",
        "description": "MRI, CT and SPECT-like slices of a head phantom; no modality alone tells all classes apart.",
        "data_root": str(data),
        "manifest": "studies.csv",
        "id": "patient",
        "group": "patient",
        "split": "split",
        "subgroups": ["scanner"],
        "modalities": {m: {"size": 96, "channels": 1} for m in MODALITIES},
        "tasks": {
            "pathology": {"kind": "multiclass", "classes": list(classes)},
            "grade": {"kind": "binary", "classes": list(GRADE)},
        },
        "model": {"name": "mail", "options": {"width": "nano"}},
        "train": {"epochs": 24},
    }


def _evaluation(
    rng: np.random.Generator, test: pd.DataFrame, classes: tuple[str, ...]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    predictions = pd.DataFrame({"row": test["row"] + 1, "split": "test", "id": test["patient"]})
    tasks: dict[str, Any] = {}
    modalities: dict[str, Any] = {"only": {m: {} for m in MODALITIES}, "without": {m: {} for m in MODALITIES}}
    subgroups: dict[str, Any] = {"scanner": {}}
    for task, names, skill in (("pathology", classes, 2.6), ("grade", GRADE, 1.3)):
        truth = np.array([names.index(c) for c in test[task]])
        probability = _probability(rng, truth, len(names), skill)
        predictions[f"label:{task}"] = truth
        predictions[[f"prob:{task}:{c}" for c in names]] = probability
        said = probability.argmax(1)
        tasks[task] = {
            "kind": "multiclass" if len(names) > 2 else "binary",
            "classes": list(names),
            "per_class": {c: _per_class(truth == k, said == k, probability[:, k]) for k, c in enumerate(names)},
            "confusion": sk.confusion_matrix(truth, said, labels=range(len(names))).tolist(),
            **_measures(truth, probability),
        }
        hidden = {"only": (0.5, 0.35, 0.3), "without": (0.6, 0.7, 0.8)}
        for group, shares in hidden.items():
            for m, share in zip(MODALITIES, shares, strict=True):
                weaker = _probability(rng, truth, len(names), skill * share)
                modalities[group][m][task] = _measures(truth, weaker)
        for value in sorted(test["scanner"].unique()):
            inside = (test["scanner"] == value).to_numpy()
            subgroups["scanner"].setdefault(value, {})[task] = _measures(truth[inside], probability[inside])
    return predictions, {"split": "test", "n": len(test), "model": COUNTS,
                          "created": "2026-03-01T12:00:00+00:00", "tasks": tasks,
                         "modalities": modalities, "subgroups": subgroups}  # fmt: skip


def _probability(rng: np.random.Generator, truth: Any, classes: int, skill: float) -> Any:
    logits = rng.normal(0, 1, (len(truth), classes)) * 1.3
    logits[np.arange(len(truth)), truth] += skill
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def _measures(truth: Any, probability: Any) -> dict[str, Any]:
    one, said = np.eye(probability.shape[1])[truth], probability.argmax(1)
    seen = np.flatnonzero(one.any(0) & ~one.all(0))
    values = {
        "balanced_accuracy": np.mean([(said == k)[truth == k].mean() for k in np.unique(truth)]),
        "accuracy": (said == truth).mean(),
        "macro_f1": sk.f1_score(truth, said, average="macro"),
        "macro_auroc": np.mean([sk.roc_auc_score(one[:, k], probability[:, k]) for k in seen]),
        "macro_auprc": np.mean([sk.average_precision_score(one[:, k], probability[:, k]) for k in seen]),
        "ece": abs(probability.max(1).mean() - (said == truth).mean()) + 0.01,
        "brier": ((probability - one) ** 2).sum(1).mean(),
        "nll": -np.log(probability[np.arange(len(truth)), truth]).mean(),
    }
    spread = 0.8 / len(truth) ** 0.5
    return {
        "n": len(truth),
        "metrics": {k: _estimate(v, spread, 9.0 if k == "nll" else 1.0) for k, v in values.items()},
    }


def _estimate(value: Any, spread: float, most: float = 1.0) -> dict[str, float]:
    return {"value": float(value), "low": max(0.0, float(value) - spread), "high": min(most, float(value) + spread)}


def _per_class(truth: Any, said: Any, score: Any) -> dict[str, Any]:
    values = {"sensitivity": said[truth].mean(), "specificity": (~said[~truth]).mean()}
    if said.any():
        values["precision"] = truth[said].mean()
    values["auroc"] = sk.roc_auc_score(truth, score)
    return {"n": int(truth.sum())} | {key: _estimate(value, 0.06) for key, value in values.items()}


def _data(frame: pd.DataFrame, classes: tuple[str, ...]) -> dict[str, Any]:
    parts = {s: frame[frame["split"] == s] for s in ("train", "val", "test")}
    counts = {s: len(part) for s, part in parts.items()}
    return {
        "studies": counts,
        "modalities": {m: {"kind": "image", "channels": 1, "size": [96, 96], "studies": counts} for m in MODALITIES},
        "tasks": {
            t: {s: {c: int((part[t] == c).sum()) for c in names} for s, part in parts.items()}
            for t, names in (("pathology", classes), ("grade", GRADE))
        },
        "bad": [{"row": 7, "modality": "ct", "remedy": "Restore the file, or leave the study out with --skip-bad"}],
    }


def _epochs(rng: np.random.Generator) -> list[dict[str, Any]]:
    lines = []
    for k in range(1, 25):
        train = 1.5 * np.exp(-k / 7) + 0.2
        val = train * 1.1 + max(0, k - 15) * 0.02 + rng.normal(0, 0.03)
        score = 0.85 - 0.6 * np.exp(-k / 5) - max(0, k - 17) * 0.004 + rng.normal(0, 0.008)
        validation = {"loss": float(val), "balanced_accuracy": float(score)}
        lines.append({"epoch": k, "train": {"loss": float(train)}, "val": validation})
    return lines


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1))
