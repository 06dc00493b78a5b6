"""Copies of images on two sides of a split, and how images were made."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from mailnet.data.check import CheckReport, Finding, check_study
from mailnet.data.check.pictures import thumbnail
from mailnet.data.check.similar import SAME, explained, similar_pairs
from mailnet.data.config import parse_config
from mailnet.data.manifest import read_manifest

BRAIN = "bench_open/brain_tumor_mri_nickparvar128.zip"


def picture(seed: int, side: int = 96) -> Image.Image:
    """Something with an outline and detail, as no noise has."""
    random = np.random.default_rng(seed)
    noise = Image.fromarray(random.integers(0, 256, (side, side), dtype=np.uint8))
    detail = np.asarray(noise.filter(ImageFilter.GaussianBlur(side / 24)), dtype=np.float32)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    return Image.fromarray((np.clip((detail - 128) * 5 + 128, 0, 255) * (x**2 + y**2 < 0.9)).astype(np.uint8))


def jpeg(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=60)
    return Image.open(io.BytesIO(stream.getvalue()))


ALTERED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "smaller": lambda image: image.resize((64, 64), Image.Resampling.BILINEAR),
    "larger": lambda image: image.resize((160, 160), Image.Resampling.BICUBIC),
    "recompressed": jpeg,
    "darker": lambda image: image.point(lambda value: value * 0.95),
    "cut by 2%": lambda image: image.resize((96, 96), Image.Resampling.BICUBIC, box=(0.96, 0.96, 95.04, 95.04)),
}


def small(image: Image.Image) -> np.ndarray:
    return thumbnail(np.asarray(image)[None])


@pytest.mark.parametrize("how", ALTERED)
def test_an_altered_copy_is_found_among_others(how: str) -> None:
    pictures = np.stack([small(picture(seed)) for seed in range(150)])
    copies = np.stack([small(ALTERED[how](picture(seed))) for seed in range(40)])
    pairs, shares = similar_pairs(
        np.concatenate([pictures, copies]), np.arange(190), lambda a, b: (a < 150) != (b < 150)
    )
    assert pairs.tolist() == [[k, 150 + k] for k in range(40)]
    assert (shares > SAME).all()


def test_pictures_of_the_same_outline_are_not_copies() -> None:
    pictures = np.stack([small(picture(seed)) for seed in range(200)])
    assert len(similar_pairs(pictures, np.arange(200), lambda a, b: a >= 0)[0]) == 0
    assert explained(pictures[:1], 255 - pictures[:1])[0] == 0


def test_few_or_equal_pictures() -> None:
    one = small(picture(0))[None]
    assert similar_pairs(one, np.arange(1), lambda a, b: a >= 0)[0].shape == (0, 2)
    assert similar_pairs(one, np.zeros(3, int), lambda a, b: a >= 0)[0].tolist() == [[0, 1], [0, 2], [1, 2]]


def rows(folder: Path, images: list[Image.Image], splits: list[str], labels: list[str], suffix: str = "png") -> None:
    lines = ["file,split,label"]
    for k, (image, split, label) in enumerate(zip(images, splits, labels, strict=True)):
        kind = suffix if label == "a" else "png"
        image.save(folder / f"{k}.{kind}")
        lines.append(f"{k}.{kind},{split},{label}")
    (folder / "t.csv").write_text("\n".join(lines) + "\n")


def checked(folder: Path, **keys: Any) -> CheckReport:
    values: dict[str, Any] = {
        "name": "t", "data_root": str(folder), "manifest": "t.csv", "split": "split",
        "modalities": {"x": {"column": "file", "size": 64}}, "tasks": {"d": {"column": "label", "classes": ["a", "b"]}},
    }  # fmt: skip
    return check_study(parse_config(values | keys))


def of(report: CheckReport, kind: str) -> Finding:
    (finding,) = [finding for finding in report.findings if finding.kind == kind]
    return finding


def test_copies_are_counted_by_study_and_stand_beside_the_training_study(tmp_path: Path) -> None:
    images = [picture(seed) for seed in range(20)] + [ALTERED["smaller"](picture(3))] * 2 + [picture(5), picture(9)]
    splits = ["train"] * 18 + ["val", "test"] + ["test"] * 3 + ["train"]
    rows(tmp_path, images, splits, ["a", "b"] * 12)
    report = checked(tmp_path)
    near, same = of(report, "near-duplicates"), of(report, "exact-duplicates")
    assert near.places.tolist() == [[3, 20], [3, 21]]
    assert near.numbers == {"pairs": 2, "test": 2}
    assert same.places.tolist() == [[5, 22]]
    # The two copies of 3 and the pair of 5 differ in label; 9 and 23 are both in training under one label.
    assert of(report, "two-labels").places.tolist() == [[20, 21], [22, 5], [3, 20]]
    assert report.status == 1


def test_mirror_images_of_other_splits_are_a_leak_of_their_own(tmp_path: Path) -> None:
    images = [picture(seed) for seed in range(24)]
    images += [ImageOps.mirror(images[2]), ImageOps.flip(images[3]), images[4].rotate(180), ImageOps.mirror(images[5])]
    # The last is in training, as the picture that it mirrors.
    rows(tmp_path, images, ["train"] * 16 + ["val"] * 4 + ["test"] * 7 + ["train"], ["a", "b"] * 14)
    report = checked(tmp_path)
    assert sorted(of(report, "turned-duplicates").places.tolist()) == [[2, 24], [3, 25], [4, 26]]
    assert [leak.kind for leak in report.leaks] == ["turned-duplicates"]


def test_a_letterbox_does_not_make_images_alike(tmp_path: Path) -> None:
    images = [picture(seed).crop((0, 32, 96, 56)) for seed in range(60)]
    rows(tmp_path, images, ["train", "val", "test"] * 20, ["a", "b"] * 30)
    assert checked(tmp_path).leaks == []


def test_a_kind_of_file_and_a_size_that_tell_the_label(tmp_path: Path) -> None:
    labels = ["a", "b"] * 40
    images = [picture(seed, 96 if label == "a" else 80) for seed, label in enumerate(labels)]
    rows(tmp_path, images, ["train"] * 60 + ["val", "test"] * 10, labels, suffix="jpg")
    told = {leak.numbers["what"] for leak in checked(tmp_path).leaks}
    assert told == {"kind of file", "size of the files"}


def test_a_folder_that_tells_the_label_is_no_leak_where_it_is_named_like_a_class(tmp_path: Path) -> None:
    for names, expected in ((("a", "b"), set()), (("north", "south"), {"folder level 1"})):
        lines = ["file,split,label"]
        for k in range(80):
            (tmp_path / names[k % 2]).mkdir(exist_ok=True)
            picture(k, 48).save(tmp_path / names[k % 2] / f"{k}.png")
            lines.append(f"{names[k % 2]}/{k}.png,{'train' if k < 60 else ('val', 'test')[k // 2 % 2]},{'ab'[k % 2]}")
        (tmp_path / "t.csv").write_text("\n".join(lines))
        assert {leak.numbers["what"] for leak in checked(tmp_path).leaks} == expected


def test_constant_saturated_and_brighter_images(tmp_path: Path) -> None:
    images = [picture(seed) for seed in range(80)]
    images[:40] = [image.point(lambda value: value // 2) for image in images[:40]]
    images[0] = Image.new("L", (96, 96), 7)
    images[1] = images[1].point(lambda value: 255 if value > 20 else value)
    rows(tmp_path, images, ["train"] * 40 + ["val"] * 10 + ["test"] * 30, ["a", "b"] * 40)
    report = checked(tmp_path)
    assert of(report, "constant").places.tolist() == [[0]]
    assert 1 in of(report, "saturated").places
    assert "brighter" in next(f.message for f in report.cautions if f.kind == "brightness" and "test" in f.numbers)


def test_blobs_of_two_patients_are_no_copies() -> None:
    y, x = np.mgrid[-1:1:24j, -1:1:24j]
    blobs = np.stack([255 * np.exp(-((x / a) ** 2 + (y / b) ** 2) * 20) for a, b in ((1.0, 1.3), (1.3, 1.0))])
    pairs, _ = similar_pairs(blobs.astype(np.uint8), np.arange(2), lambda a, b: a >= 0)
    assert len(pairs) == 0
    assert len(similar_pairs(np.stack([blobs[0]] * 2).astype(np.uint8), np.arange(2), lambda a, b: a >= 0)[0]) == 1


def test_images_that_are_nearly_one_grey_as_they_are_mapped(tmp_path: Path) -> None:
    deep = [Image.fromarray(np.asarray(picture(seed)).astype(np.uint16) * 8) for seed in range(30)]
    rows(tmp_path, deep, ["train"] * 20 + ["val"] * 4 + ["test"] * 6, ["a", "b"] * 15)
    assert "percentiles" in of(checked(tmp_path), "narrow").remedy


def test_the_middle_plane_of_volumes_is_compared(tmp_path: Path) -> None:
    lines = ["file,split,label"]
    for k in range(30):
        planes = [np.asarray(picture(k % 29 if plane == 4 else 1000 + 9 * k + plane, 48)) for plane in range(9)]
        np.save(tmp_path / f"{k}.npy", np.stack(planes))
        lines.append(f"{k}.npy,{('train', 'val', 'test')[k % 3]},{'ab'[k % 2]}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    report = checked(tmp_path, modalities={"x": {"kind": "volume", "column": "file", "size": [9, 48, 48]}})
    assert report.problems == []
    assert of(report, "near-duplicates").places.tolist() == [[0, 29]]
    assert report.sizes == {"x": {"9 x 48 x 48": 30}}


def test_the_brain_images_that_stand_on_both_sides(data_folder: Path) -> None:
    values = {
        "name": "brain", "data_root": str(data_folder),
        "manifest": {"table": f"{BRAIN}!labels.csv", "where": {"label": ["glioma", "pituitary"]}},
        "split": {"column": "split_official", "values": {"train": "train", "test": "test"}, "test": 0.2},
        "modalities": {"mri": {"column": "file"}},
        "tasks": {"tumour": {"column": "label", "classes": ["glioma", "pituitary"]}},
        "subgroups": ["test_dup_of_train"],
    }  # fmt: skip
    report = check_study(parse_config(values))
    found = {place for leak in report.leaks for place in leak.places[:, 1].tolist()}
    known = read_manifest(parse_config(values))[0].frame["subgroup:test_dup_of_train"] == "1"
    assert set(np.flatnonzero(known).tolist()) <= found
