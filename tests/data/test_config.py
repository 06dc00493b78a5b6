from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from factory import write_study
from mailnet.data.config.study import _KEYS, dump_config, load_config, parse_config
from mailnet.errors import ConfigError

LEAST = {"name": "x", "manifest": "a.csv", "modalities": {"ct": None}, "tasks": {"t": {"classes": ["a", "b"]}}}


def test_a_written_configuration_reads_back_as_the_same(tmp_path: Path) -> None:
    config = load_config(write_study(tmp_path))
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml") == config


def test_overrides_replace_values_and_make_sections(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    config = load_config(path, ["train.epochs=7", "evaluation.bootstrap=0", "tasks.grade.classes=[no, yes]"])
    assert config.train.epochs == 7
    assert config.evaluation.bootstrap == 0
    assert list(config.tasks["grade"].class_values) == ["no", "yes"]


def test_data_root_is_relative_to_the_file_and_can_be_replaced(tmp_path: Path) -> None:
    path = write_study(tmp_path / "a", data_root="..")
    assert load_config(path).root == tmp_path
    assert load_config(path, data_root=tmp_path / "b").root == tmp_path / "b"


def test_yes_and_no_are_words(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("name: x\nmanifest: a.csv\nmodalities: {ct: }\ntasks: {t: {classes: [no, yes, true]}}\n")
    assert list(load_config(path).tasks["t"].class_values) == ["no", "yes", "True"]


def test_all_problems_are_listed_with_the_nearest_key() -> None:
    values = LEAST | {"regimee": "paired", "train": {"epochs": 0}}
    with pytest.raises(ConfigError) as caught:
        parse_config(values, "study.yaml")
    assert "did you mean 'regime'?" in str(caught.value)
    assert "train.epochs" in str(caught.value)
    assert "study.yaml" in str(caught.value)
    with pytest.raises(ConfigError, match=r"'device' is not a key \(did you mean 'train.device'\?\)"):
        parse_config(LEAST | {"device": "cpu"})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"modalities": {"c t": None}}, "is not a name"),
        ({"modalities": {"ct": {"size": 4}}}, "at least 8 pixels"),
        ({"modalities": {"ct": {"range": [5, 5]}}}, "range must rise"),
        ({"modalities": {"image": {"siez": 64}}}, "'modalities.image.siez' is not a key"),
        ({"modalities": {"ct": {"window": {"centre": 1, "width": 2}}}}, "'modalities.ct.window.centre' is not a key"),
        ({"modalities": {"ct": {"window": {"center": 1}}}}, "'modalities.ct.window.width' is missing"),
        ({"modalities": {"ct": {"slice": "mid"}}}, "'modalities.ct.slice': Input should be 'middle'"),
        ({"modalities": {"ct": {"select": "CT"}}}, "'modalities.ct.select': keys and values are needed"),
        ({"modalities": {"ct": {"kind": "volume", "spacing": [1, 2]}}}, "'modalities.ct.spacing': needs 3 numbers"),
        ({"modalities": {"t": {"kind": "tabular"}}}, "needs 'numeric' or 'categorical'"),
        ({"modalities": {"t": {"kind": "tabular", "numeric": ["a"], "required": ["b"]}}}, "not listed: b"),
        (
            {
                "modalities": {
                    "t": {"kind": "tabular", "numeric": ["a"]},
                    "u": {"kind": "tabular", "categorical": ["a"]},
                }
            },
            "numeric in one modality and categorical in another: a",
        ),
        ({"modalities": {"u": {"kind": "tabular", "numeric": ["t"]}}}, "reads 't', the answer of the task 't'"),
        ({"tasks": {"t": {"classes": ["1", 1.0]}}}, "belongs to two classes"),
        ({"tasks": {"t": {"kind": "multilabel", "classes": {"a": ["x", "y"]}}}}, "exactly one column"),
        ({"split": {"train": 0.5, "val": 0.1, "test": 0.1}}, "must be 1"),
        ({"split": {"values": {"train": 1}}}, "name it in 'column'"),
    ],
)
def test_values_that_cannot_be_used(changes: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        parse_config(LEAST | changes)


@pytest.mark.parametrize("key", ["where", "unless"])
@pytest.mark.parametrize("value", ["", 1, True, ["a", 2.5], {"not": ""}, {"not": ["", "a"]}])
def test_conditions_read_back_as_the_same(tmp_path: Path, key: str, value: object) -> None:
    source: dict[str, object] = {"table": "a.csv", "where": {"ct": value}}
    if key == "unless":
        source = {"table": "a.csv", "build": {"pre": {"template": "{f}.png", "unless": {"ct": value}}}}
    config = parse_config(LEAST | {"manifest": source, "data_root": str(tmp_path)})
    (tmp_path / "study.yaml").write_text(dump_config(config))
    again = load_config(tmp_path / "study.yaml")
    assert again == config
    part = again.manifest[0].where if key == "where" else again.manifest[0].build["pre"].unless
    assert (part["ct"], type(part["ct"])) == (value, type(value))


@pytest.mark.parametrize(
    "value",
    [None, {}, {"no": 1}, {"not": None}, {"not": {"not": ""}}, {"not": "", "or": 1}, [None], [["a"]], date(2024, 5, 1)],
)
def test_a_condition_that_is_none_is_explained_once(value: object) -> None:
    for source, place in (
        ({"where": {"ct": value}}, "where.ct"),
        ({"build": {"pre": {"template": "{f}.png", "unless": {"ct": value}}}}, "build.pre.unless.ct"),
    ):
        with pytest.raises(ConfigError) as caught:
            parse_config(LEAST | {"manifest": {"table": "a.csv"} | source})
        assert caught.value.message == (
            f"'manifest.0.{place}': is {value!r}, but must be a value, several as [a, b], or {{not: value or values}}; "
            '"" is an empty cell, and a date stands in quotes'
        )


def test_a_missing_file_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mailnet init"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "study.yaml").touch()
    with pytest.raises(ConfigError, match=r"Give .*study\.yaml"):
        load_config(tmp_path)  # its folder


def test_every_key_is_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "study.md").read_text(encoding="utf-8")
    assert [key for key in _KEYS if f"`{key}`" not in text and f"`{key}:" not in text] == []
