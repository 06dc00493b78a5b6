"""What a suite says, and what is refused in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_suite import SMALL, write_suite

from mailnet.benchmark import cells
from mailnet.benchmark.cells import Cell, list_cells, network_fingerprint
from mailnet.benchmark.suite import cell_config, load_suite
from mailnet.errors import ConfigError


def test_later_overrides_replace_earlier_ones(tmp_path: Path) -> None:
    suite = load_suite(
        write_suite(
            tmp_path,
            set={"train.epochs": 7, "train.learning_rate": 0.5, "train.weight_decay": 0.1},
            studies={"two": {"set": {"train.learning_rate": 0.25, "modalities.ct.size": 24}}},
            networks={"mail": {"set": {"train.learning_rate": 1e-05, "train.precision": "bf16"}}},
        )
    )
    config = cell_config(suite, "two", "mail", {"train.seed": 5})
    assert (config.train.epochs, config.train.learning_rate, config.train.weight_decay) == (7, 1e-5, 0.1)
    assert (config.train.precision, config.train.seed, config.evaluation.bootstrap) == ("bf16", 5, 20)
    assert (config.modalities["ct"].size, config.modalities["photo"].size) == ((24, 24), (16, 16))
    assert config.model.model_dump() == SMALL
    assert cell_config(suite, "two", "wide").train.learning_rate == 0.25
    assert cell_config(suite, "apart", "wide").train.learning_rate == 0.5


def test_studies_lie_beside_the_suite_whatever_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_suite(tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    suite = load_suite("there/suite.yaml")
    assert cell_config(suite, "two", "mail").root == tmp_path / "there" / "paired"
    assert cell_config(suite, "two", "mail", data_root="elsewhere").root == tmp_path / "elsewhere"


def test_seeds_come_one_after_the_other_and_networks_where_they_are_wanted(tmp_path: Path) -> None:
    suite = load_suite(write_suite(tmp_path, networks={"mail": {"studies": ["two"]}, "wide": {"skip": ["two"]}}))
    wanted = [("two", "mail"), ("apart", "wide")]
    assert list_cells(suite) == [Cell(*pair, seed) for seed in (0, 1) for pair in wanted]
    assert list_cells(suite, seeds=[1], networks=["wide"]) == [Cell("apart", "wide", 1)]
    with pytest.raises(ConfigError, match="no network 'nobody'"):
        list_cells(suite, networks=["nobody"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epoch": 3}, "'epoch' is not a key"),
        ({"studies": None}, "'studies' is missing"),
        ({"budget": {"minutes": 3}}, "'budget.minutes' is not a key"),
        ({"budget": {"seconds": 3, "epochs": 2}}, "'seconds' stands alone"),
        ({"networks": {"both": {"name": "mail", "columns": "boosting"}}}, "either 'name'"),
        ({"networks": {"neither": {"options": {}}}}, "either 'name'"),
        ({"networks": {"mail": {"set": {"modalities.ct.size": 32}}}}, "the data are the same for every network"),
        ({"tuning": {"trials": [{"split.seed": 1}]}}, "the data are the same for every network"),
        ({"networks": {"mail": {"studies": ["tow"]}}}, "names tow, which is no study"),
        ({"networks": {"mail": {"trials": [{"train.epochs": 1}]}}}, "1 trials where 'tuning' has 0"),
        (
            {"networks": {"boost": {"columns": "boosting"}}, "tuning": {"trials": [{}, {"train.ema": None}]}},
            "network boost needs 2 'trials' of its own",
        ),
        ({"reference": "nobody"}, "'reference' names nobody"),
        ({"groups": {"all": ["two", "three"]}}, "group all names three, which is no study"),
        ({"seeds": [0, 0]}, "a seed stands twice"),
        ({"networks": {"../up": SMALL}}, "is not a name"),
        ({"metric": "accuracy"}, "'metric'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_suite(write_suite(tmp_path, **changes))


def test_a_fingerprint_is_of_what_is_computed(tmp_path: Path) -> None:
    def fingerprint(folder: str, network: str = "mail", **changes: Any) -> str:
        return network_fingerprint(load_suite(write_suite(tmp_path / folder, **changes)), "two", network)

    first = fingerprint("a")
    assert first == fingerprint("moved")
    assert first == fingerprint("a", set={"train.device": "auto", "train.checkpoint_minutes": 9}, threads=2)
    assert first == fingerprint("a", seeds=[3], latency=True, reference="wide", metric="macro_f1")
    for changes in (
        {"set": {"train.epochs": 3}},
        {"set": {"train.pretrain.epochs": 3}},
        {"set": {"modalities.ct.augment": "none"}},
        {"networks": {"mail": {"options": {"dropout": 0.4}}}},
        {"budget": {"seconds": 3}},
        {"bootstrap": 21},
        {"tuning": {"trials": [{"train.learning_rate": 0.1}]}},
    ):
        assert first != fingerprint("a", **changes), changes
    boost = {"boost": {"columns": "boosting"}}
    plain = fingerprint("a", "boost", networks=boost)
    assert plain == fingerprint("a", "boost", networks=boost, set={"train.epochs": 3}, budget={"seconds": 3})
    assert plain != fingerprint("a", "boost", networks={"boost": {"columns": "boosting", "options": {"max_iter": 9}}})


def test_an_only_trial_of_networks_is_none_of_the_tables_model(tmp_path: Path) -> None:
    trial, boost = {"train.ema": None}, {"boost": {"columns": "boosting"}}
    suite = load_suite(write_suite(tmp_path, networks=boost, tuning={"trials": [trial]}))
    assert (suite.trials("mail"), suite.trials("boost")) == ([trial], [])


def test_cells_that_are_older_than_pre_training_still_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = load_suite(write_suite(tmp_path))
    first = network_fingerprint(suite, "two", "mail")
    config = cell_config(suite, "two", "mail")
    older = config.model_dump(mode="json")
    del older["train"]["pretrain"]

    class Older:
        def model_dump(self, mode: str) -> dict[str, Any]:
            return older

    monkeypatch.setattr(cells, "cell_config", lambda *_: Older())
    assert network_fingerprint(suite, "two", "mail") == first


def test_a_new_default_of_a_network_is_another_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = load_suite(write_suite(tmp_path))
    first = network_fingerprint(suite, "two", "mail")
    defaults = cells.default_options("mail")
    # What the suite gives itself does not depend on the default.
    monkeypatch.setattr(cells, "default_options", lambda name: defaults | {"width": "large"})
    assert network_fingerprint(suite, "two", "mail") == first
    monkeypatch.setattr(cells, "default_options", lambda name: defaults | {"norm": "none"})
    assert network_fingerprint(suite, "two", "mail") != first
