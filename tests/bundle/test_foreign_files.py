"""What tells foreign studies comes back from a bundle as it was written, and damage is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mailnet.bundle.foreign import Foreign
from mailnet.bundle.foreign_files import ARRAYS, FILE, read_foreign, write_foreign
from mailnet.bundle.foreign_images import Distance, ForeignImages, Look
from mailnet.bundle.foreign_pair import ForeignPair
from mailnet.bundle.foreign_table import ForeignTable
from mailnet.data.numeric import NumericState
from mailnet.data.table import CategoricalState, TableState
from mailnet.errors import RunError
from mailnet.specs import ModalitySpec
from mailnet.trust.alarm import STEP, fit_alarm
from mailnet.trust.checks import fit_image_checks
from mailnet.trust.foreign import fit_mahalanobis
from mailnet.trust.pairs import fit_pair

NUMBERS = NumericState(("age", "count"), (50.0, 2.0), (10.0, 1.0), (50.0, 2.0), ("", ""), (False, False))
STATE = TableState("lab", NUMBERS, (CategoricalState("site", ("A", "B"), False),))
SPECS = {
    "ct": ModalitySpec("ct", "image", 1, (16, 16)),
    "lab": ModalitySpec("lab", "tabular", len(STATE.features)),
}
# age, count, site=A, site=B, site=unknown
LOW, HIGH = (np.array(values, np.float32) for values in ([-2, -1, 0, 0, 0], [2, 1, 1, 1, 0]))


def images(count: int, seed: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).beta(2, 5, (count, 1, 16, 16)), np.float32)


def foreign() -> Foreign:
    random = np.random.default_rng(0)
    look = Look.at(images(100, 1), random.normal(size=(100, 4)).astype(np.float32))
    beside = Look.at(images(60, 2), random.normal(size=(60, 4)).astype(np.float32))
    distances = {}
    for kind in ("picture", "features"):
        silent = Distance(fit_mahalanobis(look.values(kind)), fit_alarm(np.zeros(0)))
        distances[kind] = Distance(silent.score, fit_alarm(silent.log(beside.values(kind))))
    ct = ForeignImages(fit_image_checks(look.statistics), distances, (0, 2), 100)
    table = ForeignTable(LOW, HIGH, fit_alarm(np.r_[np.zeros(58), 0.5, 1.0]))
    return Foreign({"ct": ct, "lab": table}, 0.05, {"lab": STATE})


def studies() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    inputs = {"ct": images(6, 3), "lab": np.zeros((6, 5), np.float32)}
    inputs["ct"][1] = 0
    inputs["lab"][:, 2] = 1
    inputs["lab"][2] = [9, 0, 0, 0, 1]
    inputs["lab"][3, 1] = 1.2
    present = {"ct": np.array([1, 1, 1, 1, 0, 1], bool), "lab": np.array([1, 1, 1, 1, 1, 0], bool)}
    features = {"ct": np.random.default_rng(4).normal(size=(6, 4)).astype(np.float32)}
    features["ct"][5] = np.nan  # a network that diverged
    return inputs, present, features


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    fitted = foreign()
    write_foreign(tmp_path, fitted)
    read = read_foreign(tmp_path, SPECS, {"lab": STATE})
    assert read is not None
    assert read.needs_features
    assert (read.rate, set(read.modalities)) == (0.05, {"ct", "lab"})
    for name, one in fitted.examine(*studies()).items():
        again = read.examine(*studies())[name]
        np.testing.assert_array_equal(one.p, again.p)
        np.testing.assert_array_equal(one.sounds, again.sounds)
        assert one.findings == again.findings
    assert read_foreign(tmp_path / "elsewhere", SPECS, {}) is None


def test_studies_are_examined_modality_by_modality() -> None:
    found = foreign().examine(*studies())
    assert found["ct"].p[[1, 5]] == pytest.approx([1 / 61, 1 / 61])
    assert np.isnan(found["ct"].p[4])
    # Two modalities share 0.05: 1 in 61 is enough, 2 in 61 is not; a study with one modality has it alone.
    assert found["ct"].sounds.tolist()[1::4] == [True, True]
    assert found["lab"].p[:5] == pytest.approx([1, 1, 1 / 61, 3 / 61, 1])
    assert found["lab"].sounds.tolist() == [False, False, True, False, False, False]
    assert found["lab"].findings[2] == [
        "age is 140, in training studies about 30 to 70",
        "site has no value, or one that no training study had",
    ]
    assert found["lab"].findings[3] == ["count is 3.2, in training studies about 1 to 3"]
    assert found["ct"].findings[1][0].startswith("the image is blank")
    assert found["lab"].findings[0] == []


def test_what_the_network_does_not_give_is_done_without() -> None:
    fitted = foreign()
    inputs, present, _ = studies()
    # Without a network the picture alone tells, by an alarm of its own.
    alone = fitted.examine(inputs, present, {})["ct"]
    assert alone.p[1] == pytest.approx(1 / 61)
    assert alone.p[5] > 1 / 61
    with pytest.raises(ValueError, match="gives no features"):
        Look.at(images(1, 0)).values("features")
    table = Foreign({"lab": fitted.modalities["lab"]}, 0.05, {"lab": STATE})
    assert not table.needs_features
    # Alone it has the whole rate.
    assert table.examine(inputs, present, {})["lab"].sounds.tolist() == [False, False, True, True, False, False]


def test_many_columns_outside_are_counted() -> None:
    names = tuple(f"gene{k}" for k in range(30))
    ones, none = (1.0,) * 30, (0.0,) * 30
    state = TableState("rna", NumericState(names, none, ones, none, ("",) * 30, (False,) * 30, log=True), ())
    table = ForeignTable(np.zeros(30, np.float32), np.ones(30, np.float32), fit_alarm(np.zeros(60)))
    words = table.findings(np.full(30, 2, np.float32), state)
    assert len(words) == 11
    assert words[0] == "gene0 is 6.389, in training studies about 0 to 1.718"
    assert words[-1] == "20 more columns are unlike in training studies"


def of_two_views() -> Foreign:
    """Of views whose pictures share what is the study's own."""
    one = foreign().modalities["ct"]
    assert isinstance(one, ForeignImages)
    size, random = len(one.distances["picture"].score.centre), np.random.default_rng(0)
    shared = random.normal(size=(100, 1, size))
    pictures = shared + 0.1 * random.normal(size=(100, 2, size))
    score = fit_pair(pictures[:, 0], pictures[:, 1])
    pair = ForeignPair("ct", "pet", score, fit_alarm(score.score(pictures[:, 0], pictures[:, 1])), 0.9)
    return Foreign({"ct": one, "pet": one, "lab": foreign().modalities["lab"]}, 0.05, {"lab": STATE}, (pair,))


def test_pairs_are_asked_of_the_studies_that_have_both(tmp_path: Path) -> None:
    fitted = of_two_views()
    write_foreign(tmp_path, fitted)
    specs = SPECS | {"pet": ModalitySpec("pet", "image", 1, (16, 16))}
    read = read_foreign(tmp_path, specs, {"lab": STATE})
    assert read is not None
    inputs, present, features = studies()
    inputs["pet"], present["pet"] = inputs["ct"][::-1], np.array([0, 1, 1, 1, 1, 1], bool)
    found = read.examine(inputs, present, features)
    again = fitted.examine(inputs, present, features)
    pair = found["ct with pet"]
    np.testing.assert_array_equal(pair.p, again["ct with pet"].p)
    assert np.isnan(pair.p).tolist() == [True, False, False, False, True, False]
    # Four alarms, or two and one, share the rate: of study 3 ct, pet, lab and the pair.
    assert pair.sounds.tolist() == [
        bool(p * asked <= 0.05) for p, asked in zip(pair.p, [2, 4, 4, 4, 2, 3], strict=True)
    ]
    assert pair.sounds.any()
    said = "they look as if they were of two patients, or of two examinations"
    assert pair.findings == [[said] if sounds else [] for sounds in pair.sounds]
    assert "299" not in read.reason("ct with pet")
    assert list(read.alarms) == ["ct", "pet", "lab", "ct with pet"]
    written = json.loads((tmp_path / FILE).read_text())
    for change in ({"first": "lab"}, {"told": 2}, {"second": "mr"}):
        (tmp_path / FILE).write_text(json.dumps(written | {"pairs": [written["pairs"][0] | change]}))
        with pytest.raises(RunError, match="cannot be understood"):
            read_foreign(tmp_path, specs, {"lab": STATE})
    # A file of before pairs were known.
    del written["pairs"]
    (tmp_path / FILE).write_text(json.dumps(written))
    old = read_foreign(tmp_path, specs, {"lab": STATE})
    assert old is not None
    assert old.pairs == ()


def test_damage_is_named(tmp_path: Path) -> None:
    write_foreign(tmp_path, foreign())
    written = json.loads((tmp_path / FILE).read_text())

    def refused(match: str, **changes: object) -> None:
        (tmp_path / FILE).write_text(json.dumps(written | changes))
        with pytest.raises(RunError, match=match):
            read_foreign(tmp_path, SPECS, {"lab": STATE})

    refused("newer", format=99)
    refused("cannot be understood", rate="often")
    refused("cannot be understood", modalities={"mr": {}})
    refused("cannot be understood", modalities={"lab": written["modalities"]["ct"]})
    refused("need layers", modalities={"ct": written["modalities"]["ct"] | {"layers": []}})
    (tmp_path / FILE).write_text(json.dumps(written))
    with pytest.raises(RunError, match="ranges"):
        read_foreign(tmp_path, SPECS | {"lab": ModalitySpec("lab", "tabular", 4)}, {"lab": STATE})
    arrays = load_file(tmp_path / ARRAYS)
    arrays["ct.picture.centre"] = arrays["ct.picture.centre"] + 1
    save_file(arrays, tmp_path / ARRAYS)
    refused("not the file that was written with it")
    (tmp_path / ARRAYS).unlink()
    refused("cannot be understood")


def test_no_value_of_a_patient_is_kept() -> None:
    fitted = foreign()
    kept = {array.shape for one in fitted.modalities.values() if isinstance(one, ForeignImages)
            for distance in one.distances.values() for array in distance.score.arrays().values()}  # fmt: skip
    assert kept == {(87,), (1, 87), (87, 87), (91,), (1, 91), (91, 91)}
    for alarm in fitted.alarms.values():
        steps = np.array(alarm.scores) / STEP
        np.testing.assert_allclose(steps, steps.round(), atol=1e-6)


def test_ranges_are_round_numbers_around_training_and_never_cross_zero() -> None:
    names = ("age", "dose", "score", "count")
    values = np.random.default_rng(0).uniform(size=(200, 4)) * [85, 0.003, 7, 1] + [0, 0.001, -3, 0]
    values[0], values[1] = [0, 0.001, -3, 0], [85, 0.004, 4, 1]
    values[:, 3] = 1  # never changes
    mean, std = values.mean(0), np.where(values.std(0) > 1e-9, values.std(0), 1)
    numeric = NumericState(
        names, tuple(mean.tolist()), tuple(std.tolist()), tuple(mean.tolist()), ("",) * 4, (False,) * 4
    )
    state = TableState("lab", numeric, ())
    features = ((values - mean) / std).astype(np.float32)
    table = ForeignTable.around(features, state, fit_alarm(np.zeros(60)))
    assert (table.score(features) == 0).all()
    ends = np.stack([table.low, table.high]) * std + mean
    np.testing.assert_allclose(ends[0], [0, 0.001, -3, 1], atol=1e-5)
    np.testing.assert_allclose(ends[1], [85, 0.004, 4, 1], atol=1e-5)
    old = ((np.array([[100, 0.003, -4, 1]]) - mean) / std).astype(np.float32)
    assert table.findings(old[0], state) == [
        "age is 100, in training studies about 0 to 85",
        "score is -4, in training studies about -3 to 4",
    ]
    # Of values between two round numbers neither is kept.
    one = ForeignTable.around(features[2:], state, fit_alarm(np.zeros(60)))
    low, high = one.low[0] * std[0] + mean[0], one.high[0] * std[0] + mean[0]
    assert low <= values[2:, 0].min()
    assert high >= values[2:, 0].max()
    assert min(abs(low / 5 - round(low / 5)), abs(high / 5 - round(high / 5))) < 1e-4
