"""The model card: metadata that the Hub reads, numbers that are those of the files, and names that stay names."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData
from made_up import config, estimate, evaluation
from markdown_it import MarkdownIt

from mailnet.bundle.card import Facts, model_card
from mailnet.bundle.card.writing import MARKER

HOSTILE = (
    "a | b\n\n---\nlicense: mit",
    "<script>alert(1)</script>",
    '"]: {x: *y',
    "![p](http://e.x/p.png) `c` <!-- -->",
)
WORDS = "The text that a browser shows"


def front(card: str) -> dict[str, Any]:
    """The metadata, read as the Hub does: between the first two lines of dashes."""
    match = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    assert match
    return dict(yaml.safe_load(match[1]))


def test_metadata_that_the_hub_understands() -> None:
    found = evaluation()
    card = model_card(Facts(config(), 1234, evaluation=found))
    values = front(card)
    assert values["license"] == "unknown"
    assert (values["library_name"], values["pipeline_tag"]) == ("mailnet", "image-classification")
    assert values["metrics"] == ["balanced_accuracy", "roc_auc", "ece"]
    [one] = values["model-index"][0]["results"]
    assert one["task"] == {"type": "image-classification", "name": "pathology"}
    assert one["dataset"] == {"type": "breasts", "name": "Breasts", "config": "pathology", "split": "test"}
    said = {metric["type"]: metric["value"] for metric in one["metrics"]}
    given = found["tasks"]["pathology"]["metrics"]
    assert said["balanced_accuracy"] == given["balanced_accuracy"]["value"]
    assert said["roc_auc"] == given["macro_auroc"]["value"]
    data = ModelCard(card).data
    assert isinstance(data, ModelCardData)
    assert data.eval_results is not None
    assert [(result.metric_type, result.metric_value) for result in data.eval_results] == list(said.items())


def test_numbers_of_the_text_are_those_of_the_evaluation() -> None:
    card = model_card(Facts(config(), 1234, evaluation=evaluation()))
    for line in (
        "| Balanced accuracy | 0.712 | 0.662 to 0.762 |",
        "| benign | 30 | 0.700 (0.650 to 0.750) |",
        "| pathology: left alone | 60 | Balanced accuracy | 0.712 | 0.662 to 0.762 |",
        "| pathology: F (few studies) | 12 | Balanced accuracy | 0.712 | 0.662 to 0.762 |",
        "| pathology: Balanced accuracy | 0.200 | 0.010 to 0.300 | F | M | 4.0% | 12.0% | 25 |",
        "Not judged: X (3 patients).",
        "| pathology | 0.155 | 0.107 |",
        "On 60 test studies of 50 patients",
        "Of calibration errors (ECE) an interval may lie above the value",
    ):
        assert line in card
    assert "Log loss" not in card, "a measure without a value has no row"


def test_numbers_that_may_be_those_of_a_patient_are_not_shown() -> None:
    found = evaluation()
    found["subgroups"]["sex"]["other"] = {"pathology": found["tasks"]["pathology"] | {"n": 4}}
    card = model_card(Facts(config(), evaluation=found))
    assert "other" not in card.split("### By sex")[1].split("###")[0]
    assert "Subgroups of fewer than 5 labelled studies are not shown (1)." in card
    assert "are not shown" not in model_card(Facts(config(), evaluation=evaluation()))


def test_nothing_is_said_of_what_was_not_measured() -> None:
    card = model_card(Facts(config(), None))
    assert "model-index" not in front(card)
    assert "has not been measured on its test studies" in card
    for heading in ("## Reliability", "## Robustness", "## Natural damage", "## Certificates", "## Explanations"):
        assert heading not in card
    missing = card.split("## Not measured")[1]
    for command in (
        "mailnet attack",
        "mailnet corrupt",
        "mailnet certify",
        "mailnet explain",
        "test studies",
        "subgroups",
    ):
        assert command in missing
    assert "parameters" not in card
    assert "measured before the model was trained, or calibrated" in model_card(Facts(config(), outdated=True))


@pytest.mark.parametrize(
    ("calibrators", "words"),
    [
        ({}, "Probabilities are not calibrated: do not"),
        ({"pathology": "none"}, "Probabilities are not calibrated: do not"),
        (
            {"pathology": "temperature"},
            "Probabilities of pathology are calibrated on validation studies, those of stage",
        ),
        (
            {"pathology": "temperature", "stage": "vector"},
            "of pathology and stage are calibrated on validation studies.",
        ),
    ],
)
def test_calibrated_only_where_it_is(calibrators: dict[str, str], words: str) -> None:
    values = config()
    values["tasks"].append({"name": "stage", "kind": "multiclass", "classes": ["a", "b", "c"]})
    fitted = {
        task: {"method": method, "scale": [0.5], "reason": "", "studies": 40} for task, method in calibrators.items()
    }
    card = model_card(Facts(values, fitted={"split": "val", "calibrators": fitted}))
    assert words in card
    assert ("not calibrated" in card) == (not set(calibrators.values()) - {"none"})
    assert ("pathology: temperature 2.000, fitted on 40 studies" in card) == ("temperature" in calibrators.values())


def test_uncertainty() -> None:
    tasks = {"pathology": {"auroc": {"mutual_information": estimate(0.7), "confidence": None}}}
    found = evaluation() | {"uncertainty": {"source": "dropout", "draws": 20, "tasks": tasks}}
    card = model_card(Facts(config(), evaluation=found))
    assert "From 20 predictions of each study (dropout)" in card
    assert "| pathology: mutual information | 0.700 | 0.650 to 0.750 |" in card
    assert "| pathology: confidence | - | - |" in card


def test_studies_unlike_those_of_training() -> None:
    whole = {"studies": 60, "alarms": 4, "share": 4 / 60, "stated": 0.05}
    found = evaluation() | {"foreign": {"rate": 0.05, "study": whole}}
    card = model_card(Facts(config(), evaluation=found, foreign={"rate": 0.05}))
    assert (
        "Of 60 test studies, of the same origin as those of training, 6.7% were called foreign; 5.0% was aimed at."
        in card
    )
    assert "marks studies unlike those of training, and also 5.0% of those like them" in card
    assert "also on one of another organ" not in card
    left = {"images": 638, "picture": {}, "features": {}}
    pair = {"first": "left", "second": "right_", "told": 0.842}
    learned = {"rate": 0.05, "modalities": {"left": left, "right_": {"images": 9}, "lab": {}}, "pairs": [pair]}
    one = {"studies": 60, "share": 0.05, "stated": 0.017, "high": 0.061}
    card = model_card(Facts(config(), evaluation=found, foreign=learned))
    assert "left: by the picture and the network's first layers, learned from 638 training images." in card
    assert "right\\_: by the picture, learned from 9" in card
    assert "lab: by the ranges" in card
    assert "given the right\\_ of another, it tells 84.2%" in card
    assert "| Judged |" not in card
    assert "was not measured" in model_card(Facts(config(), foreign=learned))
    found["foreign"]["modalities"] = {"left": one}
    assert "| left | 60 | 5.0% | 1.7% | 6.1% |" in model_card(Facts(config(), evaluation=found, foreign=learned))
    plain = model_card(Facts(config(), evaluation=evaluation() | {"foreign": None}))
    assert "also on one of another organ" in plain
    assert "called foreign" not in plain


def test_hostile_names_stay_names() -> None:
    for name in HOSTILE:
        values, found = config((name, "other"), name), evaluation((name, "other"), name)
        values["study"] = name
        values["tasks"][0]["name"] = name
        found["tasks"] = {name: found["tasks"]["pathology"]}
        for several in (found["subgroups"]["sex"], found["modalities"]["only"]):
            for tasks in several.values():
                tasks[name] = tasks.pop("pathology")
        found["gaps"] = {name: {name: found["gaps"]["sex"]["pathology"]}}
        found["selective"] = {name: found["selective"]["pathology"]}
        facts = Facts(values, evaluation=found, description=f"{name} {WORDS}", source=name)
        card = model_card(facts)
        assert front(card)["license"] == "unknown"
        line = " ".join(name.split())
        assert front(card)["model-index"][0]["results"][0]["dataset"]["name"] == line
        assert front(card)["model-index"][0]["results"][0]["task"]["name"] == line
        html = MarkdownIt("gfm-like", {"linkify": False}).render(card.split("---\n", 2)[2])
        calm = MarkdownIt("gfm-like", {"linkify": False}).render(model_card(_calmed(facts, name)).split("---\n", 2)[2])
        # As many elements of each kind as with a name that does no harm, so none of them is the name's.
        assert re.findall(r"<[a-z0-9]+", html) == re.findall(r"<[a-z0-9]+", calm)
        assert "<script" not in html
        assert WORDS in html


def _calmed(facts: Facts, name: str) -> Facts:
    def calm(value: Any) -> Any:
        if isinstance(value, dict):
            return {calm(key): calm(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [calm(inner) for inner in value]
        return value.replace(name, "name") if isinstance(value, str) else value

    return Facts(calm(dict(facts.values)), evaluation=calm(dict(facts.evaluation or {})),
                 description=calm(facts.description), source=calm(facts.source))  # fmt: skip


def test_web_addresses_of_a_source_are_links_and_paths_are_left_out() -> None:
    source = r"https://x.org/a_b, /home/jo/patients and C:\Users\jo\p.csv, doi 10.1002/mp.16812"
    card = model_card(Facts(config(), source=source))
    assert "Source: <https://x.org/a_b>, (a path) and (a path), doi 10.1002/mp.16812" in card
    assert "jo" not in card.split("Source")[1].split("\n")[0]


def test_what_its_owner_added_stays() -> None:
    first = model_card(Facts(config()))
    edited = first.replace("license: unknown", "license: cc-by-4.0\nlanguage: de").replace(
        "- medical", "- medical\n- mine"
    )
    edited += "\n## Contact\n\nAsk *us*.\n"
    second = model_card(Facts(config(), evaluation=evaluation()), edited)
    values = front(second)
    assert (values["license"], values["language"]) == ("cc-by-4.0", "de")
    assert values["tags"] == ["mailnet", "medical", "multimodal", "mine"]
    assert second.endswith(f"{MARKER}\n\n## Contact\n\nAsk *us*.\n")
    assert model_card(Facts(config(), evaluation=evaluation()), second) == second
    assert front(model_card(Facts(config()), "---\n: [\n---\n"))["license"] == "unknown"


def test_a_table_alone_is_no_image() -> None:
    values = copy.deepcopy(config())
    values["modalities"] = values["modalities"][1:]
    card = model_card(Facts(values))
    assert front(card)["pipeline_tag"] == "tabular-classification"
    assert "multimodal" not in front(card)["tags"]
    assert "mailnet corrupt" not in card
