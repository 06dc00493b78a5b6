from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mailnet.data.cache import threads
from mailnet.data.config import PixelConfig, SplitConfig, StudyConfig
from mailnet.data.preprocess import to_unit
from mailnet.data.study import channel_statistics, load_study
from mailnet.errors import DataError

Make = Callable[..., StudyConfig]


def test_a_paired_study_is_ready(study: Make) -> None:
    data = load_study(study())
    assert len(data) == 60
    assert list(data.modalities) == list(data.arrays) == list(data.present) == ["ct", "photo", "clinical"]
    assert data.arrays["photo"].shape == (60, 3, 32, 32)
    assert data.arrays["photo"].dtype == np.uint8
    assert data.arrays["clinical"].shape == (60, data.modalities["clinical"].channels)
    assert data.modalities["photo"].size == (32, 32)
    assert data.tasks["finding"].classes == ("none", "left", "right")
    assert data.labels["finding"].tolist()[:4] == [0, 1, 2, 0]
    assert [len(data.rows(split)) for split in ("train", "val", "test")] == [36, 12, 12]
    assert data.bad == []


def test_statistics_are_those_of_the_training_rows(study: Make) -> None:
    data = load_study(study())
    training = to_unit(data.arrays["photo"][data.rows("train")]).astype(np.float64)
    spec = data.modalities["photo"]
    np.testing.assert_allclose(spec.mean or (), training.mean(axis=(0, 2, 3)), atol=1e-5)
    np.testing.assert_allclose(spec.std or (), training.std(axis=(0, 2, 3)), atol=1e-5)


def test_an_unpaired_study_is_ready(study: Make) -> None:
    data = load_study(study(regime="unpaired"))
    assert [int(present.sum()) for present in data.present.values()] == [60, 30, 30]
    assert data.arrays["clinical"][~data.present["clinical"]].any() == np.False_
    assert data.arrays["ct"][~data.present["ct"]].max() == 0
    assert data.modalities["ct"].mean is not None
    assert data.modalities["ct"].mean[0] > 0.2


def test_an_absent_modality_is_not_present(study: Make) -> None:
    data = load_study(study(lambda rows: rows[0].update(ct="")))
    assert data.present["ct"].tolist()[:2] == [False, True]
    assert data.arrays["ct"][0].max() == 0


def test_multilabel_labels_are_floats(study: Make) -> None:
    def change(rows: list[dict[str, str]]) -> None:
        for i, row in enumerate(rows):
            row |= {"a": str(i % 2), "b": "" if i == 0 else "1"}

    data = load_study(study(change, tasks={"signs": {"kind": "multilabel", "classes": ["a", "b"]}}))
    assert data.labels["signs"].dtype == np.float32
    np.testing.assert_array_equal(data.labels["signs"][:2], [[0, np.nan], [1, 1]])


def test_one_split_can_be_loaded_alone(study: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = study()
    whole = load_study(config)
    for path in (config.root / "images").iterdir():
        if int(path.stem[-3:]) // 6 % 5 != 4:
            path.unlink()
    part = load_study(config, splits=["test"], tables=whole.tables)
    assert len(part) == 12
    assert part.modalities["ct"].mean is None
    np.testing.assert_array_equal(part.arrays["ct"][:], whole.arrays["ct"][whole.rows("test")])
    np.testing.assert_array_equal(part.arrays["clinical"], whole.arrays["clinical"][whole.rows("test")])


def test_the_second_run_reads_no_image(study: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = study()
    first = load_study(config)

    def forbidden(location: str, section: PixelConfig) -> np.ndarray:
        raise AssertionError(f"{location} was read")

    monkeypatch.setattr(threads, "load_image", forbidden)
    np.testing.assert_array_equal(load_study(config).arrays["photo"][:], first.arrays["photo"][:])
    # Neither does another division of the same files, nor a part of it.
    again = load_study(config.model_copy(update={"split": SplitConfig(seed=7)}), splits=["test"])
    assert again.frame["id"].tolist() != first.frame["id"].iloc[first.rows("test")].tolist()


def spoil(config: StudyConfig) -> None:
    images = config.root / "images"
    (images / "ct005.png").write_bytes((images / "ct005.png").read_bytes()[:200])
    (images / "photo007.png").unlink()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(images / "ct020.png")


def test_bad_images_are_raised_together(study: Make) -> None:
    config = study()
    spoil(config)
    with pytest.raises(DataError) as caught:
        load_study(config)
    text = str(caught.value)
    images = config.root / "images"
    assert text.startswith("3 problems in the data:")
    assert f"study s005, modality ct, file {images / 'ct005.png'}: cannot be decoded" in text
    assert f"study s007, modality photo, file {images / 'photo007.png'}: the file does not exist" in text
    assert f"study s020, modality ct, file {images / 'ct020.png'}: has 3 channels, the modality 1" in text
    assert "--skip-bad" in text


def test_bad_studies_are_left_out_and_listed(study: Make) -> None:
    config = study()
    good = load_study(config)
    spoil(config)
    for _ in range(2):
        data = load_study(config, skip_bad=True)
        assert [error.study for error in data.bad] == ["s005", "s007", "s020"]
        assert data.bad_rows == [6, 8, 21]
        assert data.frame["row"].tolist() == [i + 1 for i in range(60) if i not in (5, 7, 20)]
        assert len(data) == 57
        assert list(data.frame.index) == list(range(57))
        kept = [i for i in range(60) if i not in (5, 7, 20)]
        for name in data.modalities:
            np.testing.assert_allclose(data.arrays[name][:], good.arrays[name][kept], atol=0.2)
            assert len(data.present[name]) == 57
        assert data.labels["finding"].tolist() == good.labels["finding"][kept].tolist()


def test_leaving_out_may_not_empty_a_class(study: Make) -> None:
    def change(rows: list[dict[str, str]]) -> None:
        rows[0]["finding"] = "rare"

    config = study(change, tasks={"finding": {"classes": ["none", "left", "right", "rare"]}})
    (config.root / "images" / "ct000.png").write_bytes(b"")
    with pytest.raises(DataError, match="'rare' has no training example"):
        load_study(config, skip_bad=True)


def test_values_outside_the_declared_range(study: Make) -> None:
    config = study(modalities={"ct": {"range": [0, 50]}})
    with pytest.raises(DataError) as caught:
        load_study(config)
    assert "study s000, modality ct" in str(caught.value)
    assert "outside the declared range [0.0, 50.0]" in str(caught.value)


def test_real_studies_load(data_folder: Path, tmp_path: Path) -> None:
    from mailnet.data.config import parse_config

    config = parse_config(
        {
            "name": "pairs",
            "data_root": str(data_folder),
            "manifest": {
                "table": "demo/demo_busbra_pairs96.zip!labels.csv",
                "pivot": {"index": "case", "columns": "view"},
            },
            "id": "case",
            "split": "split",
            "modalities": {"left": {"column": "file.left", "size": 64}, "right": {"column": "file.right", "size": 64}},
            "tasks": {"pathology": {"column": "label", "kind": "binary", "classes": ["benign", "malignant"]}},
        }
    )
    data = load_study(config)
    assert len(data) == 360
    assert len(data.rows("train")) == 250
    assert 0.05 < (data.modalities["left"].mean or (0,))[0] < 0.6


def test_statistics_of_volumes_need_little_memory() -> None:
    volumes = np.random.default_rng(0).integers(0, 2**16, (24, 1, 8, 256, 256), dtype=np.uint16)
    tracemalloc.start()
    try:
        mean, std = channel_statistics(volumes, np.arange(24))
        assert tracemalloc.get_traced_memory()[1] < 2**27
    finally:
        tracemalloc.stop()
    unit = volumes / 65535
    np.testing.assert_allclose((*mean, *std), (unit.mean(), unit.std()), atol=1e-6)
