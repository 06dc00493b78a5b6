"""The theory of coverage against simulation, and the report that uses it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest

from mailnet.specs import TaskSpec
from mailnet.trust.conformal import fit_sets
from mailnet.trust.coverage import measure_coverage, measure_sets
from mailnet.trust.theory import covered_distribution, covered_interval

Array = np.ndarray[Any, Any]
FOUR = TaskSpec("t", tuple("abcd"))


def drawn(n: int, sharp: float = 1.5, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    z = sharp * rng.normal(size=(n, 4))
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    return p, (rng.random((n, 1)) > p.cumsum(1)).sum(1).clip(max=3)


def test_distribution_equals_simulation() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((5_000, 30 + 12))
    limit = np.sort(scores[:, :30])[:, int(np.ceil(31 * 0.8)) - 1]
    counts = np.bincount((scores[:, 30:] <= limit[:, None]).sum(1), minlength=13) / 5_000
    assert covered_distribution(30, 12, 0.2) == pytest.approx(counts, abs=0.025)
    assert covered_distribution(8, 3, 0.1).tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_interval_of_several_trials_equals_simulation(level: float) -> None:
    rng = np.random.default_rng(1)
    trials = Counter({(30, 12): 5, (20, 7): 2, (3, 6): 1})
    sums = np.full(20_000, 6)
    for n, m, count in ((30, 12, 5), (20, 7, 2)):
        rank = int(np.ceil((n + 1) * 0.8))
        sums += rng.binomial(m, rng.beta(rank, n + 1 - rank, (count, 20_000))).sum(0)
    low, high = covered_interval(trials, 0.2, level)
    wanted = np.quantile(sums, [(1 - level) / 2, (1 + level) / 2])
    assert [low * 80, high * 80] == pytest.approx(wanted, abs=1.01)


def test_long_sums_are_normal(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = Counter({(200, 100): 50})
    exact = covered_interval(trials, 0.1, 0.95)
    monkeypatch.setattr("mailnet.trust.theory.EXACT_UP_TO", 10)
    assert covered_interval(trials, 0.1, 0.95) == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize("by", [None, "class", "group"])
def test_coverage_lies_in_its_interval(by: str | None) -> None:
    p, y = drawn(600)
    sites = np.array(["north", "south", "west"], dtype=object)[np.arange(600) % 3]
    found = measure_coverage(p, y, FOUR, by=sites if by == "group" else by, empty="keep", subgroups={"site": sites})
    assert found.overall.inside
    assert found.overall.high is not None
    assert found.overall.low is not None
    assert found.overall.high - found.overall.low < 0.02
    assert found.overall.lowest < 0.9 < found.overall.highest
    assert set(found.subgroups["site"]) == {"north", "south", "west"}
    for cells, promised in ((found.classes, by == "class"), (found.groups, by == "group")):
        for cell in cells.values():
            assert cell.inside is (True if promised else None)
    assert len(found.groups) == (3 if by == "group" else 0)
    if by is None:
        assert measure_coverage(p, y, FOUR, by="all", empty="keep", subgroups={"site": sites}) == found
    assert json.dumps(found.as_dict(), allow_nan=False)


def test_broken_sets_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quantile without the finite-sample step, as is often written, is seen."""
    p, y = drawn(100)
    kept = measure_coverage(p, y, FOUR, empty="keep", divisions=200)
    naive = "mailnet.trust.conformal.conformal_quantile"
    monkeypatch.setattr(naive, lambda scores, member, alpha: float(np.quantile(scores, 1 - alpha, method="lower")))
    assert kept.overall.kept
    assert measure_coverage(p, y, FOUR, empty="keep", divisions=200).overall.kept is False


def test_filled_sets_hold_more_than_promised() -> None:
    p, y = drawn(600, sharp=6)
    found = measure_coverage(p, y, FOUR, 0.2)
    assert found.overall.kept
    assert found.overall.inside is False
    assert found.overall.size == pytest.approx(1)


def test_a_rare_class_is_in_every_set() -> None:
    p, y = drawn(400)
    rare = np.flatnonzero(y == 3)[6:]
    y[rare] = 0
    found = measure_coverage(p, y, FOUR, by="class", empty="keep", divisions=40).classes["d"]
    assert (found.coverage, found.low, found.high, found.inside) == (1, 1, 1, True)
    assert found.tested == pytest.approx(3, abs=0.5)


def test_studies_of_a_patient_are_not_divided() -> None:
    """Studies repeated twenty times: were they divided, a test study would have its copy in calibration."""
    p, y = drawn(40)
    patients = np.repeat(np.arange(40), 20)
    found = measure_coverage(np.repeat(p, 20, 0), np.repeat(y, 20), FOUR, patients=patients, empty="keep")
    assert (found.studies, found.patients) == (800, 40)
    assert found.overall.tested == 20
    assert found.overall.inside


def test_labels() -> None:
    rng = np.random.default_rng(0)
    p = rng.random((400, 2))
    labels = (rng.random(p.shape) < p).astype(float)
    labels[:100, 1] = np.nan
    spec = TaskSpec("t", ("a", "b"), "multilabel")
    found = measure_coverage(p, labels, spec, 0.2, by="class", empty="keep", divisions=50, level=0.999)
    assert found.labels["a"].tested == 200
    assert found.labels["b"].tested == pytest.approx(150, abs=5)
    assert all(cell.inside for cell in (*found.labels.values(), *found.classes.values()))
    assert set(found.classes) == {"a: absent", "a: present", "b: absent", "b: present"}
    assert found.overall.low is None


def test_given_sets_on_other_studies() -> None:
    p, y = drawn(1000)
    new, true = drawn(500, seed=1)
    for by in (None, "class"):
        sets = fit_sets(p, y, FOUR, by=by, empty="keep")
        found = measure_sets(sets, new, true)
        assert found.overall.kept
        assert found.overall.coverage == pytest.approx(sets.predict(new)[np.arange(500), true].mean())
        worse = measure_sets(sets, new, (true + 1) % 4)
        assert worse.overall.kept is False
    assert measure_sets(sets, new, true, patients=np.arange(500) // 2).overall.kept is None
    groups = np.where(np.arange(1000) % 2, "x", "y")
    grouped = measure_sets(fit_sets(p, y, FOUR, by=groups), new, true, groups=np.full(500, "x"))
    assert grouped.groups["x"].kept
    with pytest.raises(ValueError, match="no study has a label"):
        measure_sets(sets, new, np.full(500, -1))
    with pytest.raises(ValueError, match="two labelled patients"):
        measure_coverage(new, true, FOUR, patients=np.zeros(500))
