"""The section on robustness: from a card, made up or measured, to what a reader sees."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mailnet.data.config import StudyConfig, parse_config
from mailnet.errors import RunError
from mailnet.report.attacked import read_attacked
from mailnet.report.robustness import render_robustness

HOSTILE = "<script>alert(1)</script>"


def share(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def figures(clean: float, robust: float, random: bool) -> dict[str, Any]:
    both = {"clean": {"accuracy": share(clean), "balanced_accuracy": share(clean - 0.01)},
            "robust": {"accuracy": share(robust), "balanced_accuracy": share(robust - 0.01)}}  # fmt: skip
    ways = {way: both for way in ("mean", "majority", "worst")} if random else None
    return {"n": 200, **both, "ways": ways}


def cell(eps: dict[str, float], robust: float, noise: str | None = None, exemplary: bool = False) -> dict[str, Any]:
    steps = [{"attack": "apgd_ce", "standing": robust + 0.02, "seconds": 1.5, "passes": 1000},
             {"attack": "square", "standing": robust, "seconds": 2.0, "passes": 234}]  # fmt: skip
    return {
        "norm": "linf", "eps": eps, "held": list(eps), "tasks": ["finding"], "suite": "standard", "noise": noise,
        "draws": 33 if noise == "sample" else 1, "n": 200, "n_held": 200,
        "figures": {"finding": figures(0.9, robust, noise == "sample")},
        "standing": {"start": 0.9, "after": steps}, "seconds": 3.5, "passes": 1234,
    }  # fmt: skip


def make_card(random: bool = False) -> dict[str, Any]:
    noise = "sample" if random else None
    levels = [{"ct": k / 255, "mri": k / 255} for k in (1, 2, 4)]
    cells = [
        cell({"ct": 2 / 255}, 0.66, noise),
        *(cell(level, 0.8 - 0.17 * k, noise) for k, level in enumerate(levels)),
    ]
    if random:
        cells += [cell(levels[1], 0.31, "off"), cell(levels[1], 0.22, "known seed")]
    align = {"cosine": 0.03, "draws": 33, "reached": 0.71, "wanted": 138, "studies": 64, "aim": 0.9, "capped": True}
    return {
        "format": 1, "mailnet": "0", "study": "s", "split": "test", "n": 200, "of": 250, "random": random,
        "suite": "rand" if random else "standard",
        "threat": {"norm": "linf", "levels": levels, "middle": 1, "tables": {}},
        "tasks": {"finding": {"kind": "multiclass", "classes": ["none", HOSTILE]}},
        "alignment": align if random else None, "repeats": 20, "cells": cells, "examples": None, "audit": None,
        "unreliable": False, "reasons": [],
    }  # fmt: skip


def config() -> StudyConfig:
    values = {"name": "s", "manifest": "gone.csv", "modalities": {"ct": {"size": 16}, "mri": {"size": 16}},
              "tasks": {"finding": {"classes": ["none", HOSTILE]}}}  # fmt: skip
    return parse_config(values)


def written(folder: Path, card: dict[str, Any]) -> str:
    (folder / "robustness.json").write_text(json.dumps(card))
    page = render_robustness(folder, config())
    assert page is not None
    assert HOSTILE not in page
    return str(page)


def test_a_run_that_was_not_attacked_has_no_section(tmp_path: Path) -> None:
    assert render_robustness(tmp_path, config()) is None


def test_the_numbers_and_intervals_of_every_radius(tmp_path: Path) -> None:
    page = written(tmp_path, make_card())
    for words in ("90.0%", "80.0%", "63.0%", "46.0%", "75.0 to 85.0%", "2/255", "200 of 250 test studies"):
        assert words in page, words
    assert "ct alone" in page
    assert "66.0%" in page
    assert "apgd_ce" in page
    assert "Not to be quoted" not in page
    assert page.count("<svg viewBox") == 1 + 2  # the chart, and two lines of its legend
    for ways in ("majority", "noise off"):
        assert ways not in page


def test_a_random_network_is_shown_in_all_ways(tmp_path: Path) -> None:
    page = written(tmp_path, make_card(random=True))
    for words in ("one draw", "One draw, balanced", "majority of draws", "every draw right", "noise off", "31.0%",
                  "seed known", "22.0%", "0.030", "average 33 draws", "0.71", "more may be found",
                  "20 fresh draws"):  # fmt: skip
        assert words in page, words
    card = make_card(random=True)
    card["alignment"] |= {"reached": 0.93, "capped": False}
    assert "more may be found" not in written(tmp_path, card)


def test_a_search_in_low_precision_is_said(tmp_path: Path) -> None:
    assert "bfloat16" in written(tmp_path, make_card() | {"precision": "bf16"})
    assert "bfloat16" not in written(tmp_path, make_card() | {"precision": "fp32"})


def test_what_is_unreliable_is_said_first(tmp_path: Path) -> None:
    card = make_card()
    figure = {"zero_of_margin": 0.25, "not_finite": 0.0, "hidden": ["finding to ct"], "ignored": {}}
    check = {"name": "no_zero_gradients", "passed": False, "figure": figure,
             "wanted": "none", "meaning": "The network hides its gradients.", "passes": 1, "seconds": 1.0}  # fmt: skip
    good = {**check, "name": "loss_rises", "passed": True, "figure": {"at": 1.0}}
    absent = {**check, "name": "draws_converged", "passed": None, "figure": {}, "meaning": "It draws nothing."}
    card |= {"unreliable": True, "reasons": ["the audit of finding failed: no_zero_gradients"]}
    card["audit"] = {"finding": {"passed": False, "failed": ["no_zero_gradients"], "studies": 128,
                                 "checks": [check, good, absent]}}  # fmt: skip
    page = written(tmp_path, card)
    assert page.index("Not to be quoted") < page.index("An attacker who knows")
    assert "The audit of finding failed" in page
    assert "zero of margin: 0.25, not finite: 0, hidden: finding to ct. The network hides its gradients." in page
    assert "It draws nothing." in page
    assert (page.count("✗ fail"), page.count("✓ pass"), page.count("does not apply")) == (1, 1, 1)
    card["audit"] = {"finding": {"passed": None, "failed": [], "checks": [], "studies": 0, "why": "too few studies"}}
    assert "too few studies" in written(tmp_path, card)


def test_images_are_shown_with_their_change_magnified_alike(tmp_path: Path) -> None:
    card = make_card()
    random = np.random.default_rng(0)
    arrays = {}
    for m, largest in enumerate((2 / 255, 1 / 255)):
        arrays[f"clean_0_{m}"] = random.integers(0, 256, (1, 16, 16)).astype(np.uint8)
        arrays[f"change_0_{m}"] = (largest * random.choice([-1, 1], (1, 16, 16))).astype(np.float16)
    np.savez_compressed(tmp_path / "robustness_examples.npz", **arrays)
    shown = {"row": 1234, "task": "finding", "cell": 2, "truth": 0, "before": [0.8, 0.2], "after": [0.3, 0.7],
             "modalities": ["ct", "mri"]}  # fmt: skip
    card["examples"] = {"file": "robustness_examples.npz", "shown": [shown]}
    (example,), factor = read_attacked(tmp_path, card, config())
    assert factor == 63  # half the range over 2/255
    assert [strip.modality for strip in example.strips] == ["ct", "mri"]
    assert (example.truth, example.before, example.after) == ("none", "none (80%)", f"{HOSTILE} (70%)")
    page = written(tmp_path, card)
    assert page.count("data:image/jpeg") == 6
    assert "63-fold" in page
    assert "Row 1234 of the manifest's table" in page.replace("&#39;", "'")
    (tmp_path / "robustness_examples.npz").write_bytes(b"damaged")
    assert "data:image" not in written(tmp_path, card)
    (tmp_path / "robustness_examples.npz").unlink()
    assert "data:image" not in written(tmp_path, card)


def test_a_card_of_a_newer_mailnet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="newer mailnet"):
        written(tmp_path, make_card() | {"format": 2})


def test_radii_of_their_own_and_tables_are_named(tmp_path: Path) -> None:
    card = copy.deepcopy(make_card())
    level = {"ct": 2 / 255, "mri": 4 / 255, "clinic": 0.1}
    card["threat"] |= {"levels": [level], "middle": 0, "tables": {"clinic": {"radius": 0.1, "columns": ["age"]}}}
    card["cells"] = [cell(level, 0.5)]
    page = written(tmp_path, card)
    assert '<th scope="row" class="radius">ct 2/255, mri 4/255</th>' in page
    assert "0.1 standard deviations" in page


def test_tasks_of_different_studies_are_not_said_to_be_attacked_at_once(tmp_path: Path) -> None:
    card = make_card()
    card["tasks"]["grade"] = card["tasks"]["finding"]
    for each in card["cells"]:
        each |= {"tasks": ["finding", "grade"], "n": 400}
        each["figures"]["grade"] = each["figures"]["finding"]
    page = written(tmp_path, card)
    assert "all modalities" in page
    assert "at once" not in page
    for each in card["cells"]:
        each["n"] = 200
    assert "all tasks at once" in written(tmp_path, card)


def test_an_attacker_of_all_tasks_at_once_is_said(tmp_path: Path) -> None:
    card = make_card()
    card["tasks"]["extent"] = card["tasks"]["finding"]
    for each in card["cells"]:
        each["figures"]["extent"] = each["figures"]["finding"]
    assert "another is after all at once" not in written(tmp_path, card)
    card["cells"].append(card["cells"][0] | {"tasks": ["finding", "extent"]})
    assert "another is after all at once" in written(tmp_path, card)


@pytest.mark.parametrize("random", [False, True])
def test_what_is_left_of_all_tasks_at_once_has_a_heading_of_its_own(random: bool, tmp_path: Path) -> None:
    card = make_card(random)
    card["tasks"]["extent"] = card["tasks"]["finding"]
    for each in card["cells"]:
        each["figures"]["extent"] = each["figures"]["finding"]
    assert "All tasks at once" not in written(tmp_path, card)
    found = {"n": 200, "clean": {"accuracy": share(0.97)}, "robust": {"accuracy": share(0.713)}}
    card["cells"] += [
        each | {"tasks": ["finding", "extent"], "at_once": found}
        for each in card["cells"]
        if each["noise"] in (None, "sample") and len(each["eps"]) > 1
    ]
    page = written(tmp_path, card)
    assert "<h3>All tasks at once</h3>" in page
    assert page.index("All tasks at once") > page.index("extent")
    for words in ("97.0%", "71.3%", "66.3 to 76.3%", "Any answer right"):
        assert words in page, words
