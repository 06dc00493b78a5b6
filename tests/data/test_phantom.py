from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mailnet.data.phantom import (
    APPEARANCE,
    CLASSES,
    MODALITIES,
    PhantomStudies,
    accuracy_bound,
    generate,
    single_modality_bound,
    write_phantom,
)
from mailnet.data.phantom.classes import FINDINGS, NOTHING
from mailnet.data.phantom.generate import BLOCK, make_block

SIZE = 48


@pytest.fixture(scope="module")
def studies() -> PhantomStudies:
    return generate(1000, size=SIZE)


def all_of(finding: str) -> np.ndarray:
    return np.full(BLOCK, FINDINGS.index(finding), dtype=np.int64)


def test_bounds_by_hand() -> None:
    assert single_modality_bound("finding") == {"mri": 0.4, "ct": 0.4, "spect": 0.6}
    assert accuracy_bound(["mri", "ct"]) == 0.6
    assert accuracy_bound(["mri", "spect"]) == accuracy_bound(["ct", "spect"]) == 0.8
    assert accuracy_bound(MODALITIES) == accuracy_bound(MODALITIES, "extent") == 1.0
    assert accuracy_bound([]) == 0.2
    # MRI shows two findings of five and their extents; of the others two thirds have a lesion, half of them small.
    assert accuracy_bound(["mri"], "extent") == pytest.approx(2 / 5 + 3 / 5 / 3)


def test_a_further_modality_never_hurts_the_bound() -> None:
    for task in CLASSES:
        for first, second in combinations(MODALITIES, 2):
            assert accuracy_bound([first, second], task) >= accuracy_bound([first], task)


@pytest.mark.parametrize(("modality", "finding"), [(m, f) for m in MODALITIES for f in FINDINGS])
def test_findings_that_look_alike_give_the_same_picture(modality: str, finding: str) -> None:
    """The bound is exact: with all else equal, exchanging two findings that look alike changes no pixel."""
    one = make_block(3, 0, SIZE, all_of(finding)).images[modality]
    for other in FINDINGS:
        same = np.array_equal(one, make_block(3, 0, SIZE, all_of(other)).images[modality])
        assert same == (APPEARANCE[finding][modality] == APPEARANCE[other][modality])


def test_what_is_drawn_says_nothing_about_the_finding(studies: PhantomStudies) -> None:
    findings = studies.labels["finding"]
    for name in ("sex", "scanner"):
        table = pd.crosstab(findings, studies.table[name])
        expected = np.outer(table.sum(axis=1), table.sum()) / len(findings)
        assert ((table - expected) ** 2 / expected).to_numpy().sum() < 20  # chi-square, 4 degrees, p = 0.0005
    ages = [studies.table["age"][findings == k].astype(float).mean() for k in range(len(FINDINGS))]
    assert max(ages) - min(ages) < 6


def lesion_statistics(studies: PhantomStudies, modality: str) -> np.ndarray:
    """(N, 4): mean and spread inside the (true or would-be) lesion, and of the whole image."""
    image = studies.images[modality][:, 0].astype(float)
    mask = studies.masks
    inside = np.array([[i[m].mean(), i[m].std()] if m.any() else [0, 0] for i, m in zip(image, mask, strict=True)])
    return np.column_stack([inside, image.mean(axis=(1, 2)), image.std(axis=(1, 2))])


@pytest.mark.parametrize(
    ("modality", "one", "other", "alike"),
    [
        ("mri", "oedema", "tumour", True),
        ("mri", "calcified", "infarct", True),
        ("ct", "oedema", "infarct", True),
        ("spect", "calcified", "oedema", True),
        ("mri", "oedema", "infarct", False),
        ("ct", "calcified", "tumour", False),
        ("spect", "tumour", "infarct", False),
    ],
)
def test_lesion_statistics_tell_findings_apart_only_where_they_should(
    studies: PhantomStudies, modality: str, one: str, other: str, alike: bool
) -> None:
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import cross_val_score

    rows = np.isin(studies.labels["finding"], [FINDINGS.index(one), FINDINGS.index(other)])
    values, labels = lesion_statistics(studies, modality)[rows], studies.labels["finding"][rows]
    forest = ExtraTreesClassifier(60, min_samples_leaf=5, random_state=0)
    accuracy = cross_val_score(forest, values, labels, cv=4).mean()
    # 400 studies at chance: standard deviation 2.5%.
    assert abs(accuracy - 0.5) < 0.08 if alike else accuracy > 0.7


def test_a_study_depends_on_seed_and_number_alone() -> None:
    whole = generate(50, size=32, seed=7)
    for part in (generate(13, size=32, seed=7, start=30), generate(43, size=32, seed=7)):
        first = int(str(part.table["study"][0]).removeprefix("phantom-"))
        rows = slice(first, first + len(part))
        for name in MODALITIES:
            np.testing.assert_array_equal(part.images[name], whole.images[name][rows])
        np.testing.assert_array_equal(part.masks, whole.masks[rows])
        for task in CLASSES:
            np.testing.assert_array_equal(part.labels[task], whole.labels[task][rows])
        for name in whole.table:
            np.testing.assert_array_equal(part.table[name], whole.table[name][rows])
    assert not np.array_equal(generate(1, size=32, seed=8).images["mri"], whole.images["mri"][:1])


def test_findings_are_equally_frequent_and_no_two_studies_are_alike(studies: PhantomStudies) -> None:
    assert np.bincount(studies.labels["finding"]).tolist() == [200] * 5
    for images in studies.images.values():
        assert len({image.tobytes() for image in images}) == len(images)


def test_masks_and_extents(studies: PhantomStudies) -> None:
    normal = studies.labels["finding"] == FINDINGS.index("normal")
    extent, area = studies.labels["extent"], studies.masks.mean(axis=(1, 2))
    assert not studies.masks[normal].any()
    assert (extent[normal] == 0).all()
    assert (extent[~normal] > 0).all()
    assert (area[~normal] > 0).mean() > 0.99
    assert np.median(area[extent == 2]) > 2 * np.median(area[extent == 1])


@pytest.mark.parametrize(
    ("finding", "modality", "sign"),
    [("calcified", "ct", 1), ("oedema", "mri", 1), ("tumour", "spect", 1), ("infarct", "spect", -1)],
)
def test_a_mask_lies_where_the_lesion_changes_the_image(finding: str, modality: str, sign: int) -> None:
    assert APPEARANCE[finding][modality] != NOTHING
    ill, well = make_block(1, 0, 96, all_of(finding)), make_block(1, 0, 96, all_of("normal"))
    change = sign * (ill.images[modality].astype(float) - well.images[modality])[:, 0]
    differences = [c[m].mean() - c[~m].mean() for c, m in zip(change, ill.masks, strict=True) if m.any()]
    assert (np.array(differences) > 3).mean() > 0.9


@pytest.mark.parametrize("size", [32, 49, 96])
def test_ranges(size: int) -> None:
    studies = generate(BLOCK, size=size)
    for name, images in studies.images.items():
        assert images.shape == (BLOCK, 1, size, size)
        assert images.dtype == np.uint8
        # The air of a corner is dark, the head is not, and hardly anything but bone is cut off.
        assert images[:, :, :2, :2].mean() < 25
        assert 20 < images.mean() < 130
        assert (images == 255).mean() < (0.25 if name == "ct" else 0.02)


@pytest.mark.parametrize("arguments", [{"n": 0}, {"n": 1, "start": -1}, {"n": 1, "seed": -1}, {"n": 1, "size": 16}])
def test_bad_arguments(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        generate(**arguments)


def test_bad_bound() -> None:
    with pytest.raises(ValueError, match="no modality pet"):
        accuracy_bound(["pet"])
    with pytest.raises(ValueError, match="task 'side'"):
        accuracy_bound(["ct"], "side")  # type: ignore[arg-type]


def test_written_study_can_be_read(tmp_path: Path) -> None:
    from mailnet.data.archives import read_npz
    from mailnet.data.config import load_config
    from mailnet.data.manifest import load_manifest

    config = load_config(write_phantom(tmp_path / "phantom", 60, size=32, seed=5))
    manifest = load_manifest(config)
    expected = generate(60, size=32, seed=5)
    assert list(config.modalities) == list(MODALITIES)
    assert manifest.frame["split"].nunique() == 3
    for task, labels in expected.labels.items():
        assert list(config.tasks[task].class_values) == list(CLASSES[task])  # type: ignore[index]
        assert manifest.frame[f"label:{task}"].tolist() == labels.tolist()
    for name, images in expected.images.items():
        np.testing.assert_array_equal(read_npz(str(manifest.frame[f"path:{name}"][41])), images[41, 0])
