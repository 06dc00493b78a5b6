"""Figures against masks, each beside a case that can be worked out by hand or by another library."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, jaccard_score

from mailnet.explain.quality import average_precision, dilate, energy_in_mask, mask_iou, pointing_game

RANDOM = np.random.default_rng(0)


def mask(*places: tuple[int, int], size: int = 8) -> np.ndarray:
    marked = np.zeros((1, size, size), dtype=bool)
    for row, column in places:
        marked[0, row, column] = True
    return marked


def test_the_point_hits_within_its_tolerance_only() -> None:
    maps = np.zeros((1, 8, 8))
    maps[0, 2, 2] = 1
    lesion = mask((2, 5))
    assert [float(pointing_game(maps, lesion, t)[0]) for t in (0, 2, 3, 4)] == [0, 0, 1, 1]
    # Three down and three across are more than four pixels away as the crow flies.
    assert pointing_game(maps, mask((5, 5)), 4) == 0


def test_negative_values_never_point() -> None:
    maps = np.full((1, 8, 8), -1.0)
    maps[0, 1, 1] = 0.5
    maps[0, 6, 6] = -9
    assert pointing_game(maps, mask((1, 1)))[0] == 1
    assert pointing_game(maps, mask((6, 6)))[0] == 0


@pytest.mark.parametrize("figure", [pointing_game, energy_in_mask, average_precision])
def test_a_map_that_says_nothing_scores_like_a_guess(figure: Callable[..., Any]) -> None:
    lesion = mask((0, 0), (0, 1), (1, 0), (1, 1))
    for blank in (np.zeros((1, 8, 8)), np.full((1, 8, 8), 0.3), np.full((1, 8, 8), -2.0)):
        assert figure(blank, lesion)[0] == pytest.approx(4 / 64)


def test_iou_of_a_blank_map_is_that_of_a_random_choice() -> None:
    lesion = mask((0, 0), (0, 1), (1, 0), (1, 1))
    both = 4 * 4 / 64
    assert mask_iou(np.zeros((1, 8, 8)), lesion)[0] == pytest.approx(both / (8 - both))


def test_without_a_lesion_there_is_no_figure() -> None:
    maps, lesions = RANDOM.random((2, 8, 8)), np.concatenate([mask(), mask((3, 3))])
    for found in (
        pointing_game(maps, lesions),
        mask_iou(maps, lesions),
        energy_in_mask(maps, lesions),
        average_precision(maps, lesions),
    ):
        assert np.isnan(found).tolist() == [True, False]


def test_figures_equal_those_of_sklearn() -> None:
    maps, lesions = RANDOM.random((5, 6, 7, 4)), RANDOM.random((5, 6, 7, 4)) < 0.3
    wanted = [average_precision_score(m.ravel(), v.ravel()) for m, v in zip(lesions, maps, strict=True)]
    np.testing.assert_allclose(average_precision(maps, lesions), wanted)

    wanted = [jaccard_score(m.ravel(), v.ravel() >= 0.5 * v.max()) for m, v in zip(lesions, maps, strict=True)]
    np.testing.assert_allclose(mask_iou(maps, lesions, share=None, threshold=0.5), wanted)

    def highest(values: np.ndarray, count: int) -> np.ndarray:
        return np.asarray(values.ravel() >= np.sort(values.ravel())[-count])

    wanted = [jaccard_score(m.ravel(), highest(v, int(m.sum()))) for m, v in zip(lesions, maps, strict=True)]
    np.testing.assert_allclose(mask_iou(maps, lesions), wanted)
    wanted = [jaccard_score(m.ravel(), highest(v, 42)) for m, v in zip(lesions, maps, strict=True)]
    np.testing.assert_allclose(mask_iou(maps, lesions, share=0.25), wanted)


def test_the_mask_itself_is_perfect() -> None:
    lesion = mask((2, 2), (2, 3), (3, 3))
    for figure in (pointing_game, mask_iou, energy_in_mask, average_precision):
        assert figure(lesion.astype(float), lesion)[0] == pytest.approx(1)


def test_energy_is_a_share_of_what_speaks_for_the_class() -> None:
    maps = np.zeros((1, 8, 8))
    maps[0, 0, 0], maps[0, 4, 4], maps[0, 5, 5] = 3, 1, -10
    assert energy_in_mask(maps, mask((0, 0), (5, 5)))[0] == pytest.approx(0.75)


def test_modalities_are_judged_together_when_flattened() -> None:
    maps, lesions = RANDOM.random((3, 8, 8)), RANDOM.random((3, 8, 8)) < 0.2
    wide = dilate(lesions, 1).reshape(3, -1)
    np.testing.assert_array_equal(pointing_game(maps.reshape(3, -1), wide), pointing_game(maps, lesions, 1))


def test_wrong_arguments_are_refused() -> None:
    maps, lesion = np.zeros((1, 8, 8)), mask((1, 1))
    with pytest.raises(ValueError, match="masks must be bool"):
        pointing_game(maps, lesion.astype(float))
    with pytest.raises(ValueError, match="masks must be bool"):
        energy_in_mask(maps[:, :4], lesion)
    with pytest.raises(ValueError, match="NaN"):
        energy_in_mask(np.full((1, 8, 8), np.nan), lesion)
    with pytest.raises(ValueError, match="either"):
        mask_iou(maps, lesion, threshold=0.5)
    with pytest.raises(ValueError, match="share"):
        mask_iou(maps, lesion, share=1.5)
    with pytest.raises(ValueError, match="tolerance"):
        dilate(lesion, -1)
