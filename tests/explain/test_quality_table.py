"""The table of methods: means, intervals over patients, differences in pairs."""

import json

import numpy as np
import pytest

from mailnet.explain.quality import FIGURES, evaluate_methods, score_maps

RANDOM = np.random.default_rng(0)


def test_every_figure_is_there_and_a_perfect_map_is_better_than_a_guess() -> None:
    lesions = np.zeros((4, 20, 20), dtype=bool)
    lesions[:, 5:9, 6:10] = True
    lesions[3] = False
    padding = np.zeros((4, 20, 20), dtype=bool)
    padding[:, :2] = True
    found = score_maps(lesions.astype(float), lesions, padding=padding)
    assert list(found) == list(FIGURES)
    assert found["pointing"][:3].tolist() == found["iou"][:3].tolist() == [1, 1, 1]
    assert np.isnan(found["pointing"][3])
    assert found["border"].tolist()[:3] == found["padding"].tolist()[:3] == [0, 0, 0]
    assert found["blank"].tolist() == [0, 0, 0, 1]
    assert np.isnan(score_maps(np.ones((4, 20, 20)), lesions)["padding"]).all()


def test_means_and_paired_differences_are_over_the_maps_that_have_them() -> None:
    centre = np.array([0.0, 1.0, np.nan, 1.0])
    ours = np.array([1.0, 1.0, 1.0, np.nan])
    found = evaluate_methods({"centre": {"pointing": centre}, "ours": {"pointing": ours}}, draws=200)
    line = found["methods"]["ours"]["pointing"]
    assert (line["value"], line["maps"]) == (1, 3)
    assert line["difference"]["value"] == pytest.approx(0.5)
    assert line["difference"]["maps"] == 2
    assert "difference" not in found["methods"]["centre"]["pointing"]
    assert found["methods"]["centre"]["pointing"]["value"] == pytest.approx(2 / 3)
    json.dumps(found, allow_nan=False)


def test_intervals_are_over_patients_and_not_over_maps() -> None:
    patients = np.repeat(np.arange(50), 8)
    values = np.repeat(RANDOM.random(50), 8)  # all maps of a patient are the same
    scores = {"ours": {"energy": values}}
    whole = evaluate_methods(scores, patients)["methods"]["ours"]["energy"]["interval"]
    single = evaluate_methods(scores)["methods"]["ours"]["energy"]["interval"]
    assert (whole[1] - whole[0]) > 2 * (single[1] - single[0])
    error = values[::8].std() / np.sqrt(50)
    assert whole[1] - whole[0] == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_what_no_map_has_is_empty() -> None:
    found = evaluate_methods({"ours": {"padding": np.full(3, np.nan)}}, draws=10)
    assert found["methods"]["ours"]["padding"] == {"value": None, "interval": None, "maps": 0}
    assert (found["maps"], found["patients"]) == (3, 3)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="one value a map"):
        evaluate_methods({"a": {"iou": np.zeros(3)}, "b": {"iou": np.zeros(2)}})
    with pytest.raises(ValueError, match="no map"):
        evaluate_methods({"a": {"iou": np.zeros(0)}})
