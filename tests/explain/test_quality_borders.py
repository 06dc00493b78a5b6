"""Frames, padding and the maps that know nothing."""

import numpy as np
import pytest
import torch

from mailnet.explain.quality import (
    BASELINES,
    baseline,
    border_share,
    centre_map,
    edge_map,
    find_padding,
    intensity_map,
    random_map,
    share_in,
)
from mailnet.nn.batch import Batch


def test_an_even_map_has_as_much_in_the_frame_as_its_area() -> None:
    found = border_share(np.ones((2, 40, 20)))
    assert found.area[0] == pytest.approx(1 - 36 * 18 / 800)
    np.testing.assert_allclose(found.ratio, 1)
    np.testing.assert_allclose(border_share(np.zeros((2, 40, 20))).ratio, 1)


def test_a_map_that_lights_up_the_frame_is_found_whatever_its_sign() -> None:
    maps = np.zeros((2, 40, 40))
    maps[0, 0, :] = -1
    maps[1, 20, 20] = 1
    found = border_share(maps)
    np.testing.assert_allclose(found.energy, [1, 0])
    assert found.ratio[0] > 5


def test_bars_of_a_letterbox_are_padding_and_dark_tissue_is_not() -> None:
    images = np.full((3, 1, 16, 16), 0.5)
    images[0, :, :4] = 0.01  # bars above and below, not quite black
    images[0, :, -3:] = 0
    images[1, :, 6:9, 6:9] = 0
    images[2] = 0
    found = find_padding(images)
    assert found[0].sum() == 7 * 16
    assert found[0, :4].all()
    assert not found[1:].any()
    volume = np.zeros((1, 1, 6, 8, 8))
    volume[0, 0, 2:5, :, 1:] = 1
    assert (~find_padding(volume)).sum() == 3 * 8 * 7


def test_where_there_is_no_padding_there_is_no_ratio() -> None:
    assert np.isnan(share_in(np.ones((1, 4, 4)), np.zeros((1, 4, 4), dtype=bool)).ratio[0])


def test_the_centre_guess_is_highest_in_the_middle() -> None:
    flat = centre_map((9, 21))
    assert flat.argmax() == 4 * 21 + 10
    assert flat.max() == 1
    assert torch.equal(flat, flat.flip(0, 1))
    assert centre_map((5, 7, 9)).shape == (5, 7, 9)


def test_random_maps_are_smooth_and_repeat_with_their_generator() -> None:
    first, second = (random_map((2, 32, 32), torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    assert (first.amin((1, 2)).tolist(), first.amax((1, 2)).tolist()) == ([0, 0], [1, 1])
    assert first.diff(dim=2).abs().max() < 0.3


def test_random_maps_are_highest_anywhere_alike() -> None:
    maps = random_map((1000, 20, 20), torch.Generator().manual_seed(2))
    frame = torch.ones(20, 20, dtype=torch.bool)
    frame[3:-3, 3:-3] = False
    share = frame.flatten()[maps.flatten(1).argmax(1)].float().mean()
    assert share == pytest.approx(float(frame.float().mean()), abs=0.05)  # three standard errors


def test_edges_and_intensity_find_a_bright_square() -> None:
    image = torch.zeros(1, 3, 32, 32)
    image[..., 12:20, 12:20] = 1
    edges, bright = edge_map(image)[0], intensity_map(image)[0]
    assert edges[12, 16] > 10 * edges[16, 16]
    assert bright[16, 16] > 10 * bright[2, 2]
    assert edge_map(image[:, :, None].repeat(1, 1, 4, 1, 1)).shape == (1, 4, 32, 32)


def test_every_baseline_leaves_absent_images_and_tables_alone() -> None:
    batch = Batch(
        {"ct": torch.rand(2, 1, 16, 16), "age": torch.rand(2, 3)},
        {"ct": torch.tensor([True, False]), "age": torch.tensor([True, True])},
    )
    for name in BASELINES:
        found = baseline(batch, name, "finding", torch.tensor([0, 1]), torch.Generator().manual_seed(0))
        assert list(found.maps) == ["ct"]
        assert found.maps["ct"].shape == (2, 16, 16)
        assert found.maps["ct"][0].max() > 0
        assert not found.maps["ct"][1].any()
    with pytest.raises(ValueError, match="upper"):
        baseline(batch, "upper", "finding", torch.tensor([0, 1]))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="frame"):
        border_share(np.ones((1, 4, 4)), 0.5)
