from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from mailnet.cli import main
from mailnet.data.cache import (
    ImageCache,
    ShardedImages,
    build,
    cache_folder,
    cache_limit,
    clear_cache,
    keys,
    list_cache,
    parse_bytes,
    set_cache_limit,
    shards,
    threads,
    writer,
)
from mailnet.data.cache.keys import find_keys
from mailnet.data.cache.processes import Processes
from mailnet.data.config import ImageConfig, PixelConfig, VolumeConfig
from mailnet.data.locations import Locator
from mailnet.data.preprocess import to_unit
from mailnet.errors import ConfigError, RunError

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
    read: Callable[[str, PixelConfig], np.ndarray] = threads.load_image  # type: ignore[attr-defined]

    def counted(location: str, section: PixelConfig) -> np.ndarray:
        seen.append(location)
        return read(location, section)

    monkeypatch.setattr(threads, "load_image", counted)
    return seen


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four images of the tests fill a shard."""
    monkeypatch.setattr(writer, "SHARD_BYTES", 4 * 64)


def load(images: list[str], config: PixelConfig = CONFIG) -> tuple[ShardedImages, dict[int, Any]]:
    root = Path(next(path for path in images if path)).parent
    return ImageCache().images(images, config, Locator(root))


def files(cache: Path) -> set[Path]:
    return set(cache.glob("*/*.npy"))


def pixels(path: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path))


def test_rows_hold_the_images_and_absent_ones_are_zero(images: list[str]) -> None:
    array, problems = load(images)
    assert problems == {}
    assert array.shape == (20, 1, 8, 8)
    assert array.dtype == np.uint8
    assert array[3].max() == 0
    for i in (0, 4, 19):
        np.testing.assert_array_equal(array[i][0], pixels(images[i]))


def test_the_second_time_reads_no_image(images: list[str], reads: list[str]) -> None:
    first, _ = load(images)
    assert len(reads) == 19
    second, _ = load(images)
    assert len(reads) == 19
    np.testing.assert_array_equal(first[:], second[:])


@pytest.mark.usefixtures("small_shards")
def test_any_choice_of_the_rows_reads_no_image_again(images: list[str], reads: list[str]) -> None:
    whole, _ = load(images)
    some = [images[i] for i in (12, 3, 7, 7, 19)]
    part, _ = load(some)
    assert len(reads) == 19
    np.testing.assert_array_equal(part[:], whole[[12, 3, 7, 7, 19]])


@pytest.mark.usefixtures("small_shards")
def test_a_table_that_grew_reads_only_what_is_new(images: list[str], reads: list[str]) -> None:
    load(images[:11])
    reads.clear()
    array, _ = load(images)
    assert sorted(reads) == sorted(images[11:])
    np.testing.assert_array_equal(array[4][0], pixels(images[4]))
    np.testing.assert_array_equal(array[15][0], pixels(images[15]))


def test_an_image_of_several_rows_is_read_once(images: list[str], reads: list[str]) -> None:
    array, _ = load([images[0]] * 5)
    assert reads == [images[0]]
    assert (array[:] == array[0]).all()


@pytest.mark.parametrize("form", [np.array, pd.Series, lambda paths: pd.Series(paths, dtype="string")])
def test_locations_come_in_any_form(images: list[str], form: Callable[[list[str]], Any]) -> None:
    expected, _ = load(images)
    array, problems = ImageCache().images(form(images), CONFIG, Locator(Path(images[0]).parent))
    assert problems == {}
    np.testing.assert_array_equal(array[:], expected[:])


def test_a_changed_file_is_seen(images: list[str], reads: list[str]) -> None:
    load(images)
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(images[5])
    array, _ = load(images)
    assert array[5].max() == 7


def test_missing_files_keep_their_names(tmp_path: Path) -> None:
    given = [str(tmp_path / name) + "!slice/3" for name in ("a.nii", "b.nii")]
    _, problems = ImageCache().images(given, ImageConfig(slice="middle"), Locator(tmp_path))
    assert [Path(str(problems[row].file)).name[:5] for row in (0, 1)] == ["a.nii", "b.nii"]


def test_a_file_that_a_dicomdir_lists_is_seen_to_change(tmp_path: Path) -> None:
    (tmp_path / "DICOMDIR").write_bytes(b"")
    (tmp_path / "series").mkdir()
    listed = tmp_path / "series" / "1"
    listed.write_bytes(b"a")
    before = find_keys([str(tmp_path / "DICOMDIR")], Locator(tmp_path))
    listed.write_bytes(b"ab")
    assert find_keys([str(tmp_path / "DICOMDIR")], Locator(tmp_path)) != before


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
    before, after = tmp_path / "here", tmp_path / "elsewhere"
    before.mkdir()
    for path in filter(None, images):
        os.rename(path, before / Path(path).name)
    load([path and str(before / Path(path).name) for path in images])
    before.rename(after)
    load([path and str(after / Path(path).name) for path in images])
    assert len(reads) == 19


def test_planes_of_a_file_are_known_by_one_look_at_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    look = keys.identity
    monkeypatch.setattr(keys, "identity", lambda *given: seen.append(given) or look(*given))
    for name in ("a.nii", "m.nii"):
        (tmp_path / name).write_bytes(b"1")
    given = [f"{tmp_path}/a.nii!slice/{n}" for n in range(5)] + [f"{tmp_path}/a.nii!largest/{tmp_path}/m.nii"]
    before = find_keys(given, Locator(tmp_path)).tolist()
    assert seen == [(f"{tmp_path}/{name}", name) for name in ("a.nii", "m.nii")]
    assert len(set(before)) == 6
    (tmp_path / "m.nii").write_bytes(b"12")
    after = find_keys(given, Locator(tmp_path)).tolist()
    assert after[:5] == before[:5]
    assert after[5] != before[5]


def test_files_of_one_name_size_and_time_are_told_apart(tmp_path: Path) -> None:
    for folder, value in (("a", 10), ("b", 200)):
        path = tmp_path / folder / "1.npy"
        path.parent.mkdir()
        np.save(path, np.full((8, 8), value, np.uint8))
        os.utime(path, (315532800, 315532800))
        assert load([str(path)])[0][0].max() == value
    np.save(path, np.full((8, 8), 100, np.uint8))
    os.utime(path, (315532800, 315532800))
    assert load([str(path)])[0][0].max() == 100


def test_members_of_one_checksum_and_size_are_told_apart(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("1.npy", b"same")
        archive.writestr("2.npy", b"same")
    one, other = find_keys([f"{tmp_path}/a.zip!{n}.npy" for n in (1, 2)], Locator(tmp_path))
    assert one != other


def test_a_path_that_no_file_can_have(tmp_path: Path) -> None:
    _, problems = load([f"{tmp_path}/a\0b.png"])
    assert list(problems) == [0]


def test_one_deeper_image_makes_the_array_deeper(images: list[str]) -> None:
    Image.fromarray(np.full((8, 8), 1000, np.uint16)).save(images[10])
    array, _ = load(images)
    assert array.dtype == np.uint16
    assert array[10].max() == 1000
    np.testing.assert_array_equal(array[0][0], pixels(images[0]).astype(np.uint16) * 257)
    np.testing.assert_array_equal(array.unit([0, 10, 3]), to_unit(array[[0, 10, 3]]))


def test_bad_images_are_reported_by_row_and_only_they_are_tried_again(images: list[str], reads: list[str]) -> None:
    Path(images[2]).write_bytes(b"")
    Path(images[7]).unlink()
    given = [*images, images[2]]
    for expected in (19, 21):
        array, problems = load(given)
        assert sorted(problems) == [2, 7, 20]
        assert problems[7].file == images[7]
        assert len(reads) == expected
        assert array[2].max() == array[20].max() == 0
        np.testing.assert_array_equal(array[8][0], pixels(images[8]))


def test_a_mended_image_is_seen(images: list[str]) -> None:
    good = Path(images[2]).read_bytes()
    Path(images[2]).write_bytes(b"")
    assert load(images)[1]
    Path(images[2]).write_bytes(good)
    assert load(images)[1] == {}


@pytest.mark.parametrize("which", [".images.npy", ".keys.npy"])
def test_a_damaged_shard_is_made_again(images: list[str], reads: list[str], cache: Path, which: str) -> None:
    load(images)
    (path,) = cache.glob(f"*/*{which}")
    path.write_bytes(path.read_bytes()[:-100])
    array, _ = load(images)
    assert len(reads) == 38
    np.testing.assert_array_equal(array[19][0], pixels(images[19]))


def test_a_full_disk_leaves_nothing_behind(images: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    load(images[:1])
    before = set(cache.rglob("*"))
    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(RunError, match="No space left on device"):
        load(images)
    assert set(cache.rglob("*")) == before


@pytest.mark.usefixtures("small_shards")
def test_builds_at_once(images: list[str]) -> None:
    results: list[np.ndarray] = []
    builders = [threading.Thread(target=lambda: results.append(load(images)[0][:])) for _ in range(4)]
    for thread in builders:
        thread.start()
    for thread in builders:
        thread.join()
    assert len(results) == 4
    for array in results:
        np.testing.assert_array_equal(array, results[0])


@pytest.mark.usefixtures("small_shards")
def test_processes_at_once_while_the_limit_makes_them_delete(images: list[str], cache: Path) -> None:
    expected = load(images)[0][:]
    clear_cache()
    set_cache_limit(20_000)
    with ProcessPoolExecutor(3, get_context("spawn")) as pool:
        sizes = [8, 8, 9, 9, 10, 10]
        for size, array in zip(sizes, pool.map(load_in_process, [images] * 6, sizes, [str(cache)] * 6), strict=True):
            assert array.shape == (20, 1, size, size)
            if size == 8:
                np.testing.assert_array_equal(array, expected)


def load_in_process(images: list[str], size: int, folder: str) -> np.ndarray:
    writer.SHARD_BYTES = 4 * 64  # type: ignore[attr-defined]
    array, problems = ImageCache(folder).images(images, ImageConfig(size=(size, size)), Locator(Path(images[0]).parent))
    assert problems == {}
    return array[:]


@pytest.mark.usefixtures("small_shards")
def test_a_kill_leaves_whole_shards(images: list[str], cache: Path, reads: list[str]) -> None:
    pid = os.fork()
    if pid == 0:
        load_one = threads.load_image  # type: ignore[attr-defined]

        def kill(location: str, section: PixelConfig) -> np.ndarray:
            if location == images[18]:
                while len(list(cache.glob("*/*.keys.npy"))) < 3:
                    time.sleep(0.001)
                os.kill(os.getpid(), signal.SIGKILL)
            return load_one(location, section)

        threads.load_image = kill  # type: ignore[attr-defined]
        load(images)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    array, problems = load(images)
    assert problems == {}
    assert 0 < len(reads) <= 19 - 12
    np.testing.assert_array_equal(array[0][0], pixels(images[0]))
    np.testing.assert_array_equal(array[19][0], pixels(images[19]))


@pytest.mark.usefixtures("small_shards")
def test_ctrl_c_keeps_what_is_decoded(images: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(rows: np.ndarray, locations: list[str], section: PixelConfig) -> Iterator[tuple[int, np.ndarray]]:
        for row in rows[:6].tolist():
            yield row, pixels(locations[row])[None]
        if len(rows):
            raise KeyboardInterrupt

    monkeypatch.setattr(build, "decode_in_threads", decoded)
    with pytest.raises(KeyboardInterrupt):
        load(images)
    assert sum(entry.images for entry in list_cache()) == 6


@pytest.fixture
def volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Thirteen NIfTI files, so slow that processes decode them."""
    monkeypatch.setattr(build, "PATIENCE_SECONDS", 1e-9)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    for i in range(13):
        image = nibabel.Nifti1Image(np.full((8, 8, 5), i, np.uint8), np.eye(4))
        nibabel.save(image, tmp_path / f"{i}.nii")
    return [str(tmp_path / f"{i}.nii") for i in range(13)]


SLICE = ImageConfig(size=(8, 8), slice="middle")


def test_slow_files_are_decoded_by_processes(volumes: list[str], images: list[str], reads: list[str]) -> None:
    Path(volumes[10]).write_bytes(b"no nifti")
    given = [*volumes, *images]
    array, problems = load(given, ImageConfig(size=(8, 8), slice=0))
    assert len(reads) == build.PROBED + 19
    assert list(problems) == [10]
    assert problems[10].file == volumes[10]
    assert [array[i].max() for i in range(13)] == [*range(10), 0, 11, 12]
    np.testing.assert_array_equal(array[13][0], pixels(images[0]))


def test_a_process_that_a_file_ends(
    volumes: list[str], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\ncat > /dev/null\necho '{}'\nexit 9\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    _, problems = load(volumes, SLICE)
    assert list(problems) == list(range(build.PROBED, 13))
    assert "its process ended with status 9" in problems[12].message


def test_where_no_process_can_be_started(volumes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    array, problems = load(volumes, SLICE)
    assert problems == {}
    assert array[12].max() == 12


def test_stopped_processes_keep_what_is_decoded(volumes: list[str], cache: Path) -> None:
    shelf = shards.shelf_of(cache, SLICE)
    shards.make_shelf(shelf, SLICE)
    keys = find_keys(volumes, Locator(Path(volumes[0]).parent))
    rows = Processes(1, shelf, SLICE, set()).decode(np.arange(13), volumes, keys)
    assert next(rows) == (0, None)
    rows.close()  # type: ignore[attr-defined]
    assert 0 < list_cache()[0].images <= 13


def test_processes_say_that_the_limit_is_too_low(volumes: list[str], cache: Path) -> None:
    shelf = shards.shelf_of(cache, SLICE)
    shards.make_shelf(shelf, SLICE)
    set_cache_limit(100)
    with pytest.raises(RunError, match="mailnet cache --limit"):
        list(Processes(2, shelf, SLICE, set()).decode(np.arange(13), volumes, np.full(13, b"key", shards.KEY)))


def test_names_in_the_cache_say_nothing(images: list[str], cache: Path) -> None:
    load(images)
    (shelf,) = cache.iterdir()
    names = [path.name.split(".")[0] for path in shelf.iterdir() if path.name != "about.json"]
    assert len(names) == 2
    assert all(len(name) == 32 and set(name) <= set("0123456789abcdef") for name in [*names, shelf.name])
    content = b"".join(path.read_bytes() for path in shelf.iterdir())
    assert b"png" not in content
    assert str(Path(images[0]).parent).encode() not in content


def test_the_cache_is_seen_and_cleared(images: list[str], cache: Path) -> None:
    load(images)
    (entry,) = list_cache()
    assert entry.images == 19
    assert entry.size == sum(path.stat().st_size for path in files(cache))
    assert entry.preparation["size"] == [8, 8]
    (cache / "other").mkdir()
    (cache / "other" / ".kept.npy").write_text("not ours")
    (entry.folder / ".killed.images.npy").write_bytes(b"half")
    (entry.folder / "killed.images.npy").write_bytes(b"whole, without keys")
    assert clear_cache() == entry.size + 4 + 19
    assert [path.relative_to(cache).as_posix() for path in cache.rglob("*")] == ["other", "other/.kept.npy"]


def test_the_command(images: list[str], cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["cache", *arguments])
        return int(ended.value.code or 0), capsys.readouterr().out

    load(images)
    capsys.readouterr()
    status, out = run("--limit", "3GB", "--json")
    shown = json.loads(out)
    assert status == 0
    assert (shown["folder"], shown["limit"], shown["bytes"]) == (str(cache), 3 * 10**9, list_cache()[0].size)
    assert [(entry["images"], entry["preparation"]["size"]) for entry in shown["entries"]] == [(19, [8, 8])]
    status, out = run()
    assert "image 1 x 8 x 8" in out
    assert "of at most 3.0 GB" in out
    assert run("--limit", "much")[0] == 2
    status, out = run("--clear", "--cache", str(cache))
    assert "Freed" in out
    assert list_cache() == []


def test_the_default_limit(cache: Path) -> None:
    disk = shutil.disk_usage(cache.parent).total
    assert cache_limit(cache) == min(100 * 10**9, disk // 10)
    set_cache_limit(parse_bytes("2.5 GB"), cache)
    assert cache_limit(cache) == 2_500_000_000
    assert cache.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "20 parsecs"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ConfigError, match="Write it like 20GB"):
        parse_bytes(text)


@pytest.mark.usefixtures("small_shards")
def test_what_was_used_longest_ago_goes_first(images: list[str], reads: list[str]) -> None:
    old, new = CONFIG, ImageConfig(size=(8, 8), resize="stretch")
    load(images, old)
    load(images, new)
    for entry in list_cache():
        if "resize" not in entry.preparation:
            for shard in shards.list_shards(entry.folder.parent, entry.folder.name):
                os.utime(shard.keys, (1, 1))
    size = sum(entry.size for entry in list_cache()) * 9 // 8
    set_cache_limit(size)
    kept = load(images[:4], old)[0]
    load(images, ImageConfig(size=(8, 8), resize="crop"))
    reads.clear()
    load(images, new)
    assert reads == []
    load(images[:4], old)
    assert reads == []
    assert sum(entry.size for entry in list_cache()) <= size
    np.testing.assert_array_equal(kept[0][0], pixels(images[0]))


@pytest.mark.usefixtures("small_shards")
def test_a_study_keeps_its_own_and_is_told_when_it_needs_more(images: list[str]) -> None:
    other = ImageConfig(size=(8, 8), resize="stretch")
    root = Locator(Path(images[0]).parent)
    store = ImageCache()
    first, _ = store.images(images, CONFIG, root)
    size = list_cache()[0].size
    set_cache_limit(size + 100)
    with pytest.raises(RunError, match=r"need at least .* the cache may hold .*mailnet cache --limit"):
        store.images(images, other, root)
    load(images, other)
    assert [entry.preparation.get("resize") for entry in list_cache()] == ["stretch"]
    # What has been deleted is still there for whom it was given.
    np.testing.assert_array_equal(first[19][0], pixels(images[19]))


def test_a_shard_deleted_on_the_way_is_decoded_again(
    images: list[str], reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load(images)
    opened = shards.Shard.open
    calls: list[int] = []

    def gone(shard: shards.Shard, count: int, item: tuple[int, ...]) -> np.ndarray | None:
        calls.append(count)
        if len(calls) == 1:
            shard.delete()
        return opened(shard, count, item)

    monkeypatch.setattr(shards.Shard, "open", gone)
    array, _ = load(images)
    assert len(reads) == 38
    np.testing.assert_array_equal(array[19][0], pixels(images[19]))


def test_a_shard_that_cannot_be_opened_is_kept(images: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(images)
    whole = files(cache)

    def refused(*_: Any, **__: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(np.lib.format, "open_memmap", refused)
        with pytest.raises(RunError, match=r"cannot be read \(Too many open files\).*ulimit -n"):
            load(images)
    assert files(cache) == whole
    monkeypatch.setattr(os, "utime", refused)
    assert load(images)[0][0].any()
    assert files(cache) == whole


def test_a_new_cache_is_its_owners_alone(images: list[str], cache: Path) -> None:
    load(images)
    assert all(folder.stat().st_mode & 0o077 == 0 for folder in (cache, *cache.iterdir()))


def test_a_cache_that_cannot_be_made(images: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        ImageCache(tmp_path / "file" / "cache").images(images, CONFIG, Locator(tmp_path))


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder(tmp_path / "a") == tmp_path / "a"
    monkeypatch.setenv("MAILNET_CACHE", str(tmp_path / "b"))
    assert cache_folder() == tmp_path / "b"
    monkeypatch.delenv("MAILNET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert cache_folder() == tmp_path / "c" / "mailnet"


def test_a_modality_without_any_image(tmp_path: Path) -> None:
    array, problems = ImageCache().images(["", ""], CONFIG, Locator(tmp_path))
    assert array.shape == (2, 1, 8, 8)
    assert problems == {}


def test_work_is_shown_on_stderr(images: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    load(images)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Decoding images: 19 of 19" in err


def test_volumes_are_kept_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = np.arange(8**3, dtype=np.uint16).reshape(1, 8, 8, 8)
    monkeypatch.setattr(threads, "load_image", lambda location, section: volume)
    array, _ = ImageCache().images(["a.nii", ""], VolumeConfig(kind="volume", size=8), Locator(tmp_path))
    assert array.shape == (2, 1, 8, 8, 8)
    np.testing.assert_array_equal(array[0], volume)
    assert array[1].max() == 0


def made_up(count: int) -> ShardedImages:
    """Rows over two shards of 8 bits and one of 16; every tenth is absent."""
    several = [RANDOM.integers(0, 256, (50, 1, 4, 4), dtype=np.uint8) for _ in range(2)]
    several.append(RANDOM.integers(0, 2**16, (50, 1, 4, 4), dtype=np.uint16))
    shard = RANDOM.integers(0, 3, count)
    shard[::10] = -1
    return ShardedImages(several, shard, RANDOM.integers(0, 50, count), (1, 4, 4))


def test_rows_are_chosen_as_from_an_array() -> None:
    images = made_up(40)
    whole = images[:]
    assert whole.dtype == images.dtype == np.uint16
    assert whole[::10].max() == 0
    np.testing.assert_array_equal(images[7], whole[7])
    np.testing.assert_array_equal(images[np.int64(-1)], whole[-1])
    np.testing.assert_array_equal(images[3:30:4], whole[3:30:4])
    np.testing.assert_array_equal(images[[5, 0, -2, 5]], whole[[5, 0, -2, 5]])
    mask = RANDOM.random(40) > 0.5
    np.testing.assert_array_equal(images[mask], whole[mask])
    np.testing.assert_array_equal(images.take(np.array([9, 3]))[:], whole[[9, 3]])
    np.testing.assert_array_equal(images.unit([5, -1, 10, 7]), to_unit(whole[[5, 0, 10, 7]]))
    assert images[[]].shape == (0, 1, 4, 4)
    for wrong in (40, -41, [40], [-41], np.zeros(3, bool), np.zeros((2, 2), int), [0.5]):
        with pytest.raises(IndexError):
            images[wrong]  # type: ignore[index]


def test_a_million_rows_need_two_numbers_each() -> None:
    tracemalloc.start()
    images = made_up(1_000_000)
    order = RANDOM.permutation(1_000_000)
    started = tracemalloc.get_traced_memory()[0]
    for start in range(0, 20_000, 64):
        images.unit(order[start : start + 64])
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert now - started < 2**20
    assert peak < 60 * 2**20


def test_keys_of_many_rows_need_little_memory(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez_compressed(file, images=np.zeros((30_000, 1), np.uint8))
    locations = pd.Series(np.char.add(f"{file}!images/", np.arange(30_000).astype(str)), dtype="string[pyarrow]")
    tracemalloc.start()
    keys = find_keys(locations, Locator(tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(np.unique(keys)) == 30_000
    assert peak < 8 * 2**20
