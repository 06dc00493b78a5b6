from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mailnet.data import cache as cache_module
from mailnet.data.cache import cache_folder, cached_images, clear_cache, list_cache
from mailnet.data.config import ImageConfig, PixelConfig
from mailnet.data.locations import Locator
from mailnet.errors import RunError

CONFIG = ImageConfig(size=(8, 8))
RANDOM = np.random.default_rng(0)


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    """Twenty images; the fourth row is absent."""
    paths = []
    for i in range(20):
        path = tmp_path / f"{i}.png"
        Image.fromarray(RANDOM.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
        paths.append(str(path))
    paths[3] = ""
    return paths


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The locations that are read."""
    seen: list[str] = []
    read: Callable[[str, PixelConfig], np.ndarray] = cache_module.load_image

    def counted(location: str, section: PixelConfig) -> np.ndarray:
        seen.append(location)
        return read(location, section)

    monkeypatch.setattr(cache_module, "load_image", counted)
    return seen


def load(images: list[str], config: ImageConfig = CONFIG) -> tuple[np.ndarray, dict[int, Any]]:
    root = Path(next(path for path in images if path)).parent
    return cached_images(images, config, Locator(root))


def pixels(path: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path))


def test_rows_hold_the_images_and_absent_ones_are_zero(images: list[str]) -> None:
    array, problems = load(images)
    assert problems == {}
    assert isinstance(array, np.memmap)
    assert array.shape == (20, 1, 8, 8)
    assert array[3].max() == 0
    for i in (0, 4, 19):
        np.testing.assert_array_equal(array[i, 0], pixels(images[i]))


def test_the_second_time_reads_no_image(images: list[str], reads: list[str]) -> None:
    first, _ = load(images)
    assert len(reads) == 19
    second, _ = load(images)
    assert len(reads) == 19
    np.testing.assert_array_equal(first, second)


def test_a_changed_file_is_seen(images: list[str], reads: list[str]) -> None:
    load(images)
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(images[5])
    array, _ = load(images)
    assert array[5].max() == 7


@pytest.mark.parametrize("change", [{"size": (9, 9)}, {"resize": "crop"}, {"range": (0, 256)}, {"convert": True}])
def test_other_preprocessing_is_another_array(images: list[str], reads: list[str], change: dict[str, Any]) -> None:
    load(images)
    load(images, ImageConfig(**{"size": (8, 8), **change}))
    assert len(reads) == 38


def test_augmentation_is_no_preprocessing(images: list[str], reads: list[str]) -> None:
    load(images)
    load(images, ImageConfig(size=(8, 8), augment="none"))
    assert len(reads) == 19


def test_a_moved_folder_is_found_again(images: list[str], reads: list[str], tmp_path: Path) -> None:
    load(images)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in filter(None, images):
        os.rename(path, moved / Path(path).name)
    load([path and str(moved / Path(path).name) for path in images])
    assert len(reads) == 19


def test_one_deeper_image_makes_the_array_deeper(images: list[str]) -> None:
    Image.fromarray(np.full((8, 8), 1000, np.uint16)).save(images[10])
    array, _ = load(images)
    assert array.dtype == np.uint16
    assert array[10].max() == 1000
    np.testing.assert_array_equal(array[0, 0], pixels(images[0]).astype(np.uint16) * 257)


def test_bad_images_are_reported_by_row_and_only_they_are_tried_again(images: list[str], reads: list[str]) -> None:
    Path(images[2]).write_bytes(b"")
    Path(images[7]).unlink()
    for expected in (19, 21):
        _, problems = load(images)
        assert sorted(problems) == [2, 7]
        assert problems[7].file == images[7]
        assert len(reads) == expected
    assert list_cache() == []


def test_a_mended_image_is_seen(images: list[str]) -> None:
    good = Path(images[2]).read_bytes()
    Path(images[2]).write_bytes(b"")
    assert load(images)[1]
    Path(images[2]).write_bytes(good)
    assert load(images)[1] == {}


def test_a_damaged_array_is_made_again(images: list[str], reads: list[str]) -> None:
    load(images)
    path = list_cache()[0].path
    path.write_bytes(path.read_bytes()[:-100])
    array, _ = load(images)
    np.testing.assert_array_equal(array[19, 0], pixels(images[19]))


def test_a_full_disk_leaves_nothing_behind(images: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache_module, "_write", full)
    with pytest.raises(RunError, match="No space left on device"):
        load(images)
    assert list(cache.iterdir()) == []


def test_two_builds_at_once(images: list[str]) -> None:
    results: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: results.append(load(images)[0])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for array in results[1:]:
        np.testing.assert_array_equal(array, results[0])


def test_names_in_the_cache_say_nothing(images: list[str], cache: Path) -> None:
    load(images)
    assert [len(path.stem) for path in cache.iterdir()] == [32]
    assert all(c in "0123456789abcdef" for path in cache.iterdir() for c in path.stem)


def test_the_cache_is_seen_and_cleared(images: list[str], cache: Path) -> None:
    load(images)
    (entry,) = list_cache()
    assert entry.size > 0
    (cache / "other.txt").write_text("not ours")
    (cache / f".{entry.path.name}.killed.npy").write_bytes(b"half")
    assert len(list_cache()) == 1
    assert clear_cache() == entry.size
    assert [path.name for path in cache.iterdir()] == ["other.txt"]


def test_a_new_cache_is_its_owners_alone(images: list[str], cache: Path) -> None:
    load(images)
    assert cache.stat().st_mode & 0o077 == 0


def test_a_cache_that_cannot_be_made(images: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        cached_images(images, CONFIG, Locator(tmp_path), folder=tmp_path / "file" / "cache")


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder(tmp_path / "a") == tmp_path / "a"
    monkeypatch.setenv("MAILNET_CACHE", str(tmp_path / "b"))
    assert cache_folder() == tmp_path / "b"
    monkeypatch.delenv("MAILNET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert cache_folder() == tmp_path / "c" / "mailnet"


def test_a_modality_without_any_image(tmp_path: Path) -> None:
    array, problems = cached_images(["", ""], CONFIG, Locator(tmp_path))
    assert array.shape == (2, 1, 8, 8)
    assert problems == {}


def test_work_is_shown_on_stderr(images: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    load(images)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Decoding images: 19 of 19" in err
