"""A user's own transform changes studies in training, and only there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.transforms import Compose, RandFlipd, RandGaussianNoised
from small_study import small_config

from mailnet.errors import ConfigError, RunError
from mailnet.files import read_json
from mailnet.nn.batch import Batch
from mailnet.training import train
from mailnet.training.user_transform import augment_studies, check_same_augment, described

FLIP = RandFlipd(["ct", "mr"], prob=0.5, spatial_axis=1, allow_missing_keys=True)


def batch() -> Batch:
    random = torch.Generator().manual_seed(0)
    inputs = {name: torch.rand(6, 1, 4, 4, generator=random) for name in ("ct", "mr")}
    inputs["clinic"] = torch.rand(6, 3, generator=random)
    present = {name: torch.ones(6, dtype=torch.bool) for name in inputs}
    present["mr"][2] = False
    inputs["mr"][2] = 0
    return Batch(inputs, present, {}, [str(i) for i in range(6)])


def test_modalities_of_a_study_change_together_and_repeat() -> None:
    before = batch()
    after = augment_studies(before, FLIP, ["ct", "mr"], seed=3)
    flipped = [bool((after.inputs["ct"][i] == before.inputs["ct"][i].flip(-1)).all()) for i in range(6)]
    assert 0 < sum(flipped) < 6
    for i in (0, 1, 3, 4, 5):
        expected = before.inputs["mr"][i].flip(-1) if flipped[i] else before.inputs["mr"][i]
        assert torch.equal(after.inputs["mr"][i], expected)
    assert torch.equal(after.inputs["clinic"], before.inputs["clinic"])
    assert torch.equal(augment_studies(batch(), FLIP, ["ct", "mr"], 3).inputs["ct"], after.inputs["ct"])
    assert torch.equal(before.inputs["ct"], batch().inputs["ct"])


def test_noise_stays_in_range() -> None:
    after = augment_studies(batch(), RandGaussianNoised("ct", prob=1.0, std=5.0), ["ct"], 0).inputs["ct"]
    assert (after.min(), after.max()) == (0, 1)
    assert type(after) is torch.Tensor


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (lambda study: {**study, "ct": study["ct"][:, :2]}, r"makes ct \[1, 2, 4\], it was \[1, 4, 4\]"),
        (lambda study: {}, "'ct' is gone"),
        (lambda study: [study], "a list"),
        (lambda study: {**study, "ct": study["ct"] / 0}, "not finite"),
        (RandFlipd("pet", prob=1.0), "failed on a study that has ct"),
    ],
)
def test_what_it_must_not_do_is_named(augment: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        augment_studies(batch(), augment, ["ct", "mr"], 0)


def test_a_run_says_by_what_and_goes_on_with_nothing_else(tmp_path: Path) -> None:
    both = Compose([FLIP, RandGaussianNoised("ct")])
    assert described(both) == "Compose(RandFlipd, RandGaussianNoised)"
    check_same_augment(tmp_path, both)
    (tmp_path / "run.json").write_text('{"augment": "RandFlipd"}', encoding="utf-8")
    check_same_augment(tmp_path, FLIP)
    for other in (None, both):
        with pytest.raises(RunError, match="began with the augment RandFlipd"):
            check_same_augment(tmp_path, other)


def test_training_uses_it_in_place_of_presets(tmp_path: Path) -> None:
    seen: list[dict[str, tuple[int, ...]]] = []

    def note(study: dict[str, Any]) -> dict[str, Any]:
        seen.append({name: tuple(image.shape) for name, image in study.items()})
        return study

    config = small_config(tmp_path, n=30)
    result = train(config, tmp_path / "run", cache=tmp_path / "cache", progress=False, augment=note)
    assert seen == [{"ct": (1, 16, 16), "photo": (3, 16, 16)}] * 2 * 18  # epochs, training studies
    assert read_json(result.run / "run.json")["augment"] == "note"
