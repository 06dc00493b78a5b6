"""Attacks of a suite: which networks they meet, what a cell keeps of them, and the tables of what is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_suite import write_suite

from mailnet.benchmark import load_suite, run_suite, write_tables
from mailnet.benchmark.attack_entry import AttackEntry
from mailnet.benchmark.attack_tables import attack_sections, summarise_attacks
from mailnet.benchmark.cells import network_fingerprint
from mailnet.benchmark.results import Results
from mailnet.errors import ConfigError

PGD = {"pgd": {"suite": "published", "eps": ["4/255", 0.1]}}


def test_an_attack_meets_the_networks_and_studies_that_it_names(tmp_path: Path) -> None:
    boost = {"columns": "boosting", "options": {"min_samples_leaf": 3}}
    some = {"pgd": {"eps": ["4/255"], "networks": ["wide"], "studies": ["two"]}, "all": {"eps": [0.1]}}
    suite = load_suite(write_suite(tmp_path, networks={"boost": boost}, attacks=some))
    assert suite.attacks["pgd"].eps == [4 / 255]
    assert list(suite.attacks_on("two", "wide")) == ["pgd", "all"]
    assert list(suite.attacks_on("two", "mail")) == list(suite.attacks_on("apart", "wide")) == ["all"]
    assert suite.attacks_on("two", "boost") == {}


def test_a_fingerprint_knows_the_attacks_that_a_network_meets(tmp_path: Path) -> None:
    some = {"pgd": {"eps": ["4/255"], "networks": ["wide"]}}
    plain, attacked = (load_suite(write_suite(tmp_path / str(k), **c)) for k, c in enumerate([{}, {"attacks": some}]))
    for network, same in (("mail", True), ("wide", False)):
        found = {network_fingerprint(suite, "two", network) for suite in (plain, attacked)}
        assert (len(found) == 1) == same
    more = load_suite(write_suite(tmp_path / "more", attacks={"pgd": {"eps": ["4/255"], "networks": ["mail", "wide"]}}))
    assert network_fingerprint(more, "two", "wide") == network_fingerprint(attacked, "two", "wide")


def test_what_a_cell_is_known_by_is_as_recorded() -> None:
    entry = AttackEntry(eps=[0.1], networks=["mail"])
    recorded = {"suite": None, "norm": "linf", "eps": [0.1], "at_most": None, "max_draws": 50, "repeats": 20,
                "modes": False, "audit": False}  # fmt: skip
    assert entry.settings() == recorded  # a further key, where it is not used, would make all recorded cells stale
    assert entry.model_copy(update={"precision": "bf16"}).settings() == recorded | {"precision": "bf16"}


def test_radii_may_be_of_each_modality(tmp_path: Path) -> None:
    some = {"pgd": {"eps": [{"ct": "4/255", "pet": "0.5/255"}, "4/255"]}}
    suite = load_suite(write_suite(tmp_path, attacks=some))
    assert suite.attacks["pgd"].eps == [{"ct": 4 / 255, "pet": 0.5 / 255}, 4 / 255]
    network_fingerprint(suite, "two", "mail")
    mixed = card(0.9, 0.5, [0.0])
    mixed["cells"][0]["eps"]["pet"] = 0.5 / 255
    found = summarise_attacks(Results(suite, {"two": {"mail": [{"attacks": {"pgd": mixed}}]}}, {}, []))
    assert [point["eps"] for point in found["pgd"]["two"]["t"]["mail"]["points"]] == ["0", "ct 4/255, pet 0.5/255"]


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        ({"eps": [{"ct": "4/0"}]}, "'attacks.pgd.eps.0': is no number, nor a fraction"),
        ({"eps": [{}]}, "names no modality"),
        ({"eps": ["4/0"]}, "is no number, nor a fraction"),
        ({"eps": [-1]}, "must be positive"),
        ({"eps": []}, "at least 1 item"),
        ({"eps": [0.1], "networks": ["none"]}, "attack pgd names none, which is no network"),
        ({"eps": [0.1], "studies": ["none"]}, "attack pgd names none, which is no study"),
    ],
)
def test_what_cannot_be_attacked_is_said(tmp_path: Path, attack: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_suite(write_suite(tmp_path, attacks={"pgd": attack}))


def card(clean: float, left: float, redraws: list[float], reached: float | None = None) -> dict[str, Any]:
    """A made-up result card of one radius, whose redraws lie around its values."""
    figures = {
        "clean": {"balanced_accuracy": {"value": clean}, "accuracy": {"value": 0.0}},
        "robust": {"balanced_accuracy": {"value": left}, "accuracy": {"value": 0.0}},
        "redraws": {"clean": [clean + r for r in redraws], "robust": [left + r for r in redraws]},
    }
    cell = {"norm": "linf", "eps": {"ct": 4 / 255, "pet": 4 / 255}, "noise": None, "figures": {"t": figures}}
    still = {**cell, "noise": "off", "figures": {"t": {**figures, "robust": figures["clean"]}}}
    alignment = None if reached is None else {"draws": 20, "reached": reached}
    return {"suite": "standard", "random": reached is not None, "n": 50, "alignment": alignment, "unreliable": False,
            "cells": [cell, still]}  # fmt: skip


def test_what_is_left_is_a_mean_over_seeds_and_compared_in_pairs(tmp_path: Path) -> None:
    suite = load_suite(write_suite(tmp_path, attacks=PGD))
    noise = [-0.02, -0.01, 0.0, 0.01, 0.02]
    cells = {
        "mail": [{"attacks": {"pgd": card(0.9, left, noise)}} for left in (0.5, 0.6)],
        "wide": [{"attacks": {"pgd": card(0.8, 0.3, noise, reached=0.87)}}],
    }
    found = summarise_attacks(Results(suite, {"two": cells, "apart": {}}, {}, []))["pgd"]["two"]["t"]
    assert [point["eps"] for point in found["mail"]["points"]] == ["0", "4/255"]
    assert found["mail"]["points"][1]["mean"] == pytest.approx(0.55)
    assert found["mail"]["points"][1]["sd"] == pytest.approx(0.1 / 2**0.5)
    assert found["mail"]["points"][1]["difference"] is None
    difference = found["wide"]["points"][1]["difference"]
    assert difference["value"] == pytest.approx(-0.25)
    # Both are redrawn alike, so that nothing is left of the redraws' spread but that of mail's two seeds.
    assert (difference["low"], difference["high"]) == (pytest.approx(-0.3), pytest.approx(-0.2))
    assert difference["excludes_zero"]
    text = "\n".join(attack_sections({"pgd": {"two": {"t": found}}}, "mail"))
    assert "| wide | standard, 20 draws, cosine 0.87 | 50 | 0.8000 | 0.3000 | **-0.1000" in text
    assert text.index("| mail |") < text.index("| wide |")


def test_cells_of_a_suite_with_attacks_hold_what_is_left(tmp_path: Path) -> None:
    path = write_suite(tmp_path, attacks=PGD, seeds=[0], networks={"wide": None}, studies={"apart": None})
    suite, out = load_suite(path), tmp_path / "out"
    assert run_suite(suite, out, cache=tmp_path / "cache").complete
    found = json.loads((out / "cells" / "two" / "mail" / "seed-0.json").read_text(encoding="utf-8"))["attacks"]["pgd"]
    assert found["unreliable"]
    assert found["n"] > 0
    for cell in found["cells"]:
        (figures,) = cell["figures"].values()
        assert figures["robust"]["accuracy"]["value"] <= figures["clean"]["accuracy"]["value"]
        assert len(figures["redraws"]["robust"]) == suite.bootstrap
    text = write_tables(suite, out).read_text(encoding="utf-8")
    assert "## Attack: pgd" in text
    assert "published (unreliable)" in text
