"""Columns that tell the label, by their values or by where they are empty; patients on two sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mailnet.data.check import CheckReport, Finding, check_study
from mailnet.data.check.predictor import _auroc, binned, chance, score
from mailnet.data.config import parse_config


def test_the_area_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    scores, truth = random.integers(0, 6, 300) / 6, random.integers(0, 2, 300)
    cells = np.unique(scores)
    positive = np.array([truth[scores == cell].sum() for cell in cells], float)
    total = np.array([(scores == cell).sum() for cell in cells], float)
    assert _auroc(cells, positive, total) == pytest.approx(roc_auc_score(truth, scores))


def test_noise_is_within_chance_and_a_copy_is_whole() -> None:
    random = np.random.default_rng(1)
    labels, groups = random.integers(0, 3, 600), np.arange(600) // 2
    found = [score(random.integers(0, 4, 600), labels, groups, 3) for _ in range(200)]
    assert max(s.z for s in found if s) < chance(200)
    assert np.mean([s.auroc for s in found if s]) == pytest.approx(0.5, abs=0.03)
    whole = score(labels, labels, groups, 3)
    assert whole is not None
    assert (whole.auroc, whole.balanced_accuracy) == (1, 1)


def test_what_only_a_patient_has_is_not_learnt_of_the_patient() -> None:
    # Each patient has a value of their own, the same in all rows: by rows it tells all, by patients nothing.
    groups = np.arange(400) // 4
    found = score(groups, groups % 2, groups, 2)
    assert found is not None
    assert found.auroc == pytest.approx(0.5, abs=0.05)


def test_too_few_patients_are_not_judged() -> None:
    assert score(np.zeros(8, int), np.arange(8) % 2, np.arange(8), 2) is None


def test_numbers_fall_into_bins_of_equal_counts() -> None:
    counts = np.bincount(binned(np.random.default_rng(0).normal(size=1600)))
    assert (len(counts), counts.min() > 80) == (16, True)


def table(folder: Path, n: int = 400, **columns: Any) -> None:
    frame = {
        "study": np.arange(n),
        "split": np.where(np.arange(n) % 5, "train", np.where(np.arange(n) % 2, "val", "test")),
    }
    pd.DataFrame(frame | columns).to_csv(folder / "t.csv", index=False)


def checked(folder: Path, categorical: list[str], numeric: list[str] | None = None, **keys: Any) -> CheckReport:
    clinical = {"kind": "tabular", "categorical": categorical, "numeric": numeric or []}
    values: dict[str, Any] = {
        "name": "t", "data_root": str(folder), "manifest": "t.csv", "split": "split", "id": "study",
        "modalities": {"clinical": clinical}, "tasks": {"d": {"column": "label", "classes": ["no", "yes"]}},
    }  # fmt: skip
    return check_study(parse_config(values | keys))


def names(findings: list[Finding]) -> set[str | None]:
    return {finding.column for finding in findings}


@pytest.fixture
def truth() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 2, 400)


def told(truth: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """The label, but noise in some of the rows."""
    random = np.random.default_rng(seed)
    return np.where(random.random(len(truth)) < share, truth, random.integers(0, 2, len(truth)))


def test_columns_that_tell_the_label(tmp_path: Path, truth: np.ndarray) -> None:
    label = np.where(truth == 1, "yes", "no")
    random = np.random.default_rng(5)
    table(
        tmp_path, label=label, copy=np.where(truth == 1, "B", "A"), symptom=told(truth, 0.76), biopsy=told(truth, 0.5),
        marker=truth * 9 + random.normal(size=400), sex=random.integers(0, 2, 400), device=told(truth, 0.6, 1),
        other=np.where(truth == 1, "x", "y"), weak=told(truth, 0.7, 2), note=[f"text {k}" for k in range(400)],
    )  # fmt: skip
    report = checked(tmp_path, ["copy", "symptom", "biopsy", "sex", "note"], ["marker"])
    # 'biopsy' and 'device' tell as much as 'symptom', but not by what a patient has.
    assert names(report.leaks) == {"copy", "marker", "biopsy", "device"}
    assert names(report.cautions) == {"symptom", "other", "note"}
    assert {f.column: f.kind for f in report.findings}["device"] == "confounded"
    copies = [finding for finding in report.findings if "is a copy of the label" in finding.message]
    assert names(copies) >= {"copy", "other"}
    assert report.unjudged == ["note"]
    # The note would stop training: it has a text a row.
    assert report.status == 2


def test_gaps_that_tell_the_label_are_one_finding(tmp_path: Path, truth: np.ndarray) -> None:
    random = np.random.default_rng(5)
    gap = (truth == 0) & (random.random(400) < 0.6)
    smoke = pd.Series(random.choice(["a", "b"], 400)).mask(gap)
    age = pd.Series(random.normal(50, 9, 400).round(1)).mask(gap)
    fair = pd.Series(random.choice(["a", "b"], 400)).mask(random.random(400) < 0.3)
    table(tmp_path, label=np.where(truth == 1, "yes", "no"), smoke=smoke, age=age, fair=fair)
    report = checked(tmp_path, ["smoke", "fair"], ["age"])
    (leak,) = report.leaks
    training = np.flatnonzero(gap & (np.arange(400) % 5 > 0))
    assert (leak.kind, leak.numbers["columns"], leak.numbers["missing"]) == (
        "label-missingness", "smoke, age", len(training),
    )  # fmt: skip
    assert "none of these rows is yes" in leak.message
    assert leak.places[:, 0].tolist() == training.tolist()


@pytest.mark.parametrize("name", ["patient_id", "pid", "patient_mrn", "Medical Record Number"])
def test_a_column_of_patients_that_the_study_does_not_name(tmp_path: Path, truth: np.ndarray, name: str) -> None:
    table(tmp_path, label=np.where(truth == 1, "yes", "no"), sex=told(truth, 0.1), **{name: np.arange(400) // 8})
    (leak,) = checked(tmp_path, ["sex"]).leaks
    assert (leak.kind, leak.column) == ("group-in-two-splits", name)
    # Named, it is what training stops at.
    report = checked(tmp_path, ["sex"], group=name)
    assert (report.leaks, report.status) == ([], 2)


def test_a_multilabel_task_is_judged_by_class(tmp_path: Path, truth: np.ndarray) -> None:
    table(tmp_path, one=truth, two=told(truth, 0), sex=told(truth, 0, 4), sign=truth + 5)
    report = checked(tmp_path, ["sex", "sign"], tasks={"d": {"kind": "multilabel", "classes": ["one", "two"]}})
    assert [(leak.task, leak.column) for leak in report.leaks] == [("d:one", "sign")]


def test_breast_ultrasound_columns_that_follow_from_the_diagnosis(data_folder: Path) -> None:
    later = ["Interpretation", "BIRADS", "Verification", "Diagnosis"]
    signs = ["Shape", "Margin", "Echogenicity", "Posterior_features", "Halo", "Calcifications", "Skin_thickening",
             "Tissue_composition", "Signs", "Symptoms"]  # fmt: skip
    values = {
        "name": "breast", "data_root": str(data_folder), "split": "split", "id": "CaseID",
        "manifest": {
            "table": "bench_open/breast_usg_clinical192.zip!labels.csv", "missing": ["not available"]
        },
        "modalities": {"table": {"kind": "tabular", "numeric": ["Age"], "categorical": signs + later}},
        "tasks": {"d": {"column": "label", "classes": ["benign", "malignant", "normal"]}},
    }  # fmt: skip
    report = check_study(parse_config(values))
    assert names(report.leaks) == set(later)
    assert names([f for f in report.cautions if f.kind == "label-column"]) == {"Margin", "Classification"}
    assert report.status == 1


def test_skin_lesions_whose_history_was_asked_of_the_biopsied_only(data_folder: Path) -> None:
    columns = ["smoke", "drink", "gender", "cancer_history", "fitspatrick", "region", "itch", "bleed", "biopsed"]
    values = {
        "name": "skin", "data_root": str(data_folder), "manifest": "tabular/pad_ufes_20_metadata.csv",
        "group": "patient_id", "split": {"train": 1.0, "val": 0.0, "test": 0.0},
        "modalities": {"table": {"kind": "tabular", "numeric": ["age"], "categorical": columns}},
        "tasks": {"d": {"column": "diagnostic", "classes": ["BCC", "ACK", "NEV", "SEK", "SCC", "MEL"]}},
    }  # fmt: skip
    report = check_study(parse_config(values))
    column, gaps = report.leaks
    assert column.column == "biopsed"
    assert (gaps.kind, gaps.numbers["missing"], len(gaps.places)) == ("label-missingness", 804, 804)
    assert "none of these rows is BCC, SCC, MEL" in gaps.message
