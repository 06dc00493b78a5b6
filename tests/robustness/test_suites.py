"""Which suites there are and which networks they are for."""

from __future__ import annotations

import pytest

from mailnet.attacks import get_attack
from mailnet.errors import ConfigError
from mailnet.robustness.attack.network import choose_suite
from mailnet.robustness.attack.suites import get_suite

NAMES = ("standard", "rand", "published", "quick")


@pytest.mark.parametrize("name", NAMES)
def test_every_member_is_an_attack_with_options_that_it_has(name: str) -> None:
    suite = get_suite(name)
    for member in suite.members:
        assert callable(get_attack(member.attack, **member.options))
    assert suite.as_dict()["name"] == name
    assert [each["attack"] for each in suite.as_dict()["members"]] == [member.attack for member in suite.members]


def test_the_standard_suite_is_that_of_autoattack() -> None:
    assert [member.name for member in get_suite("standard").members] == ["apgd_ce", "apgd_t", "fab_t", "square"]
    members = {member.name: member for member in get_suite("rand").members}
    assert {"apgd_ce", "apgd_dlr", "square", "mim from noise off", "mim from noise frozen"} == set(members)
    assert members["square"].draws == 20


def test_each_is_for_networks_that_draw_or_do_not() -> None:
    fits = {name: (get_suite(name).refusal(False) is None, get_suite(name).refusal(True) is None) for name in NAMES}
    assert fits == {
        "standard": (True, False), "rand": (False, True), "published": (True, True), "quick": (True, True)}  # fmt: skip
    assert "use 'rand'" in str(get_suite("standard").refusal(True))
    with pytest.raises(ValueError, match="unknown suite 'best'"):
        get_suite("best")


def test_attacks_of_ones_own_choice_are_a_suite_that_says_so() -> None:
    suite = get_suite("pgd:steps=50,early_drop=false+fgsm")
    assert [(member.attack, member.options) for member in suite.members] == [
        ("pgd", {"steps": 50, "early_drop": False}), ("fgsm", {})]  # fmt: skip
    assert [member.work(1, 2) for member in suite.members] == [150, 3]
    used, reasons = choose_suite("pgd:steps=50,early_drop=false+fgsm", True, False)
    assert used == suite
    assert "a choice of attacks" in reasons[0]
    for wrong, message in (
        ("pgd+best", "unknown suite 'pgd\\+best'.*attacks joined by"),
        ("pgd:strength=1", "'pgd' has no option 'strength'; it has steps"),
        ("pgd:steps", "'steps' gives no number"),
        ("pgd:steps=many", "gives no number, true or false"),
    ):
        with pytest.raises(ConfigError, match=message):
            choose_suite(wrong, False, False)


def test_the_one_that_fits_is_taken_and_what_does_not_is_said() -> None:
    assert [choose_suite(None, random, False)[0].name for random in (False, True)] == ["standard", "rand"]
    assert choose_suite("standard", False, False)[1] == []
    assert len(choose_suite("standard", True, True)[1]) == 1
    assert "comparison" in choose_suite("published", True, False)[1][0]
