"""Calibration, prediction sets, abstention and gaps as the report shows them."""

from __future__ import annotations

from typing import Any

import numpy as np

from mailnet.report.reliability import render_reliability
from mailnet.specs import TaskSpec
from mailnet.trust.abstain import abstain_threshold
from mailnet.trust.conformal import fit_sets
from mailnet.trust.coverage import measure_coverage, measure_sets
from mailnet.trust.fairness import by_rows, measure_gap
from mailnet.trust.selective import risk_coverage

HOSTILE = "<b>benign</b>"
SPEC = TaskSpec("finding", (HOSTILE, "malignant"), "binary")


def evaluation() -> dict[str, Any]:
    """The parts of an evaluation that the section reads, of 200 made-up studies that are right in four of five."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    second = np.clip(np.where(labels == 1, 0.7, 0.3) + rng.normal(0, 0.25, 200), 0.01, 0.99)
    said = np.stack([1 - second, second], 1)
    wrong = (said.argmax(1) != labels).astype(float)
    sets = fit_sets(said, labels, SPEC, 0.2)
    site = np.where(np.arange(200) < 100, "north", "<i>south</i>")
    estimate = {"value": 0.123, "low": 0.1, "high": 0.15}
    every = {by or "all": measure_coverage(said, labels, SPEC, 0.2, by=by, subgroups={"site": site}).as_dict()
             for by in (None, "class")}  # fmt: skip
    one = {
        "alpha": 0.2,
        "score": "lac",
        "by": "all",
        "promise": sets.promise,
        "notes": ["<u>few</u>"],
        "measured": measure_sets(sets, said, labels, subgroups={"site": site}).as_dict(),
        "divisions": every,
    }
    abstention = abstain_threshold(said.max(1), wrong, 0.25)
    assert abstention.threshold is not None
    measured = {"coverage": 0.678, "wrong": 0.0432, "answered": 130, "studies": 200}
    curve = risk_coverage(said.max(1), wrong)
    assert curve is not None
    gap = measure_gap(by_rows(lambda rows: float(1 - wrong[rows].mean())), site, bootstrap=20, permutations=20)
    calibrated = {"method": "temperature", "temperature": [1.25], "reason": "", "studies": 200, "patients": 200,
                  "before": {"ece": estimate}, "after": {"ece": None}}  # fmt: skip
    return {
        "selective": {"finding": curve.as_dict()},
        "reliability": {
            "split": "val",
            "calibration": {"finding": calibrated},
            "sets": {"finding": [one]},
            "abstention": {"finding": abstention.as_dict() | {"promise": abstention.promise, "measured": measured}},
        },
        "gaps": {"site": {"finding": {"balanced_accuracy": gap.as_dict()}}},
    }


def test_what_was_fitted_and_what_it_comes_to() -> None:
    found = evaluation()
    page = str(render_reliability(found))
    cell = found["reliability"]["sets"]["finding"][0]["divisions"]["all"]["overall"]
    for words in (
        "1.250",
        "0.123",
        "80.0% promised",
        "67.8% are answered, 4.3% of these wrongly",
        "site: north",
        f"{100 * cell['coverage']:.1f}%",
        f"{100 * cell['low']:.1f}% to {100 * cell['high']:.1f}%",
    ):
        assert words in page
    for text in (HOSTILE, "<i>south</i>", "<u>few</u>"):
        assert text not in page
    assert "&lt;b&gt;benign&lt;/b&gt;" in page


def test_where_nothing_was_fitted_the_curve_is_left() -> None:
    page = str(render_reliability(evaluation() | {"reliability": None, "gaps": {}}))
    assert "nothing has been fitted" in page
    assert "above the best possible order" in page
    assert "promised" not in page


def test_an_evaluation_of_an_older_version_has_no_such_section() -> None:
    assert render_reliability({"tasks": {}}) is None
    assert render_reliability({"selective": {"finding": None}}) is None


def test_subgroups_of_a_few_studies_are_not_shown() -> None:
    found = evaluation()
    measured = found["reliability"]["sets"]["finding"][0]["measured"]
    cell = measured["overall"]
    measured["subgroups"]["site"] |= {"few": cell | {"tested": 4}, "five": cell | {"tested": 5}}
    page = str(render_reliability(found))
    assert "site: five" in page
    assert "site: few" not in page
    assert "Subgroups of fewer than 5 tested studies are not shown (1)." in page
    assert "are not shown" not in str(render_reliability(evaluation()))


def test_chances_of_gaps_say_whether_they_are_corrected() -> None:
    found = evaluation()
    page = str(render_reliability(found))
    assert "hardly ever holds 0" not in page
    assert "It is of each gap by itself" in page
    assert "Of all</th>" not in page
    found["gaps"]["site"]["finding"]["balanced_accuracy"]["corrected"] = 0.4321
    page = str(render_reliability(found))
    assert "corrected for the 1 gaps" in page
    assert "<td>0.432</td>" in page


def test_pairs_of_images_are_explained_where_there_are_any() -> None:
    one = {"studies": 60, "alarms": 3, "share": 0.05, "stated": 0.025, "high": 0.0612, "findings": 0, "images": 9,
           "patients": 60, "reason": "", "kinds": ["picture"]}  # fmt: skip
    foreign = {"rate": 0.05, "study": one, "modalities": {"left": one}}
    page = str(render_reliability(evaluation() | {"foreign": foreign}))
    assert "of one patient" not in page
    assert "<td>6.1%</td>" in page
    foreign["modalities"] = {"left": one, "left with <b>": one | {"kinds": ["pair"], "images": None}}
    page = str(render_reliability(evaluation() | {"foreign": foreign}))
    assert "“left with &lt;b&gt;” ask whether two images of a study look as if of one patient" in page
