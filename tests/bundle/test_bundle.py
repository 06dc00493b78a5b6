from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError

import mailnet
from factory import read_table, write_study, write_table
from mailnet.bundle import Predictor, load, save_bundle, store
from mailnet.data.config import load_config
from mailnet.data.study import StudyData, load_study
from mailnet.errors import DataError, RunError
from mailnet.files import write_json
from mailnet.nn import create_model
from mailnet.nn.registry import default_options


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def data(study: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyData:
    return load_study(load_config(study), cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def bundle(data: StudyData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(data, tmp_path_factory.mktemp("run") / "bundle", "mail", {"width": "nano"})


def write(data: StudyData, folder: Path, name: str, options: dict) -> Path:
    torch.manual_seed(0)
    model = create_model(name, data.modalities, data.tasks, **options)
    # Weights that answer, so that a difference shows.
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return save_bundle(folder, model, name, options, data.config, data.tables, {"train": 36})


@pytest.fixture(scope="module")
def predictor(bundle: Path) -> Predictor:
    return load(bundle)


@pytest.fixture
def changed(bundle: Path) -> Iterator[Callable[[Callable[[dict], None]], Path]]:
    """Change the bundle's config.json for one test."""
    path = bundle / "config.json"
    text = path.read_text()

    def change(edit: Callable[[dict], None]) -> Path:
        values = json.loads(text)
        edit(values)
        path.write_text(json.dumps(values))
        return bundle

    yield change
    path.write_text(text)


def test_files_and_loaded_data_give_the_same(study: Path, data: StudyData, predictor: Predictor) -> None:
    from_files = predictor.predict(study.parent / "studies.csv")
    loaded = predictor.predict_data(data, np.arange(len(data)))
    assert from_files.ids == list(data.frame["id"])
    assert predictor.predict(study).ids == from_files.ids
    for task in data.tasks:
        np.testing.assert_allclose(from_files.probabilities[task], loaded[task], atol=1e-6)
        np.testing.assert_allclose(loaded[task].sum(1), 1, atol=1e-5)


def test_a_prediction_depends_on_its_study_alone(data: StudyData, predictor: Predictor) -> None:
    rows = np.arange(len(data))
    whole = predictor.predict_data(data, rows)
    shuffled = np.random.default_rng(0).permutation(rows)
    other = predictor.predict_data(data, shuffled, batch_size=7)
    for task in data.tasks:
        np.testing.assert_allclose(other[task], whole[task][shuffled], atol=1e-6)


def test_the_saved_network_is_the_given_one(data: StudyData, tmp_path: Path) -> None:
    model = create_model("mail", data.modalities, data.tasks, width="nano").eval()
    save_bundle(tmp_path / "bundle", model, "mail", {"width": "nano"}, data.config, data.tables)
    restored = load(tmp_path).model.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, restored[name])


def test_a_bundle_outlives_a_change_of_defaults(
    data: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {"unit": "multiscale", "fuse_kernel": 1, "blocks": 2}
    monkeypatch.setattr(store, "default_options", lambda name: default_options(name) | before)
    model = create_model("mail", data.modalities, data.tasks, width="nano", **before).eval()
    save_bundle(tmp_path / "bundle", model, "mail", {"width": "nano"}, data.config, data.tables)
    monkeypatch.undo()
    assert default_options("mail") != default_options("mail") | before
    restored = load(tmp_path).model.state_dict()
    assert all(torch.equal(tensor, restored[name]) for name, tensor in model.state_dict().items())


def test_dicts_frames_arrays_and_absent_modalities(study: Path, predictor: Predictor) -> None:
    row = read_table(study.parent / "studies.csv")[0]
    files = {"ct": str(study.parent / row["ct"]), "photo": str(study.parent / row["photo"])}
    full = {**files, "age": row["age"], "site": row["site"]}
    arrays = full | {name: np.asarray(Image.open(path)) for name, path in files.items()}
    one = predictor.predict(full)
    two = predictor.predict([arrays, {"ct": files["ct"]}])
    frame = predictor.predict(pd.DataFrame([full]))
    np.testing.assert_allclose(one.probabilities["finding"], frame.probabilities["finding"], atol=1e-6)
    np.testing.assert_allclose(one.probabilities["finding"][0], two.probabilities["finding"][0], atol=1e-6)
    np.testing.assert_allclose(
        two.probabilities["grade"][1],
        predictor.predict(full, without=["photo", "clinical"]).probabilities["grade"][0],
        atol=1e-6,
    )
    assert two.as_dicts()[1]["absent"] == ["photo", "clinical"]
    assert list(one.to_frame().columns)[:3] == ["id", "finding", "finding:none"]
    assert one.as_dicts()[0]["tasks"]["grade"]["predicted"] in ("low", "high")
    json.dumps(two.as_dicts(), allow_nan=False)


def test_bad_studies(study: Path, tmp_path: Path, predictor: Predictor) -> None:
    rows = [dict(row) for row in read_table(study.parent / "studies.csv")[:3]]
    for row in rows:
        for name in ("ct", "photo"):
            (tmp_path / row[name]).parent.mkdir(exist_ok=True)
            (tmp_path / row[name]).write_bytes((study.parent / row[name]).read_bytes())
    (tmp_path / rows[1]["ct"]).write_bytes(b"no image")
    write_table(tmp_path / "new.csv", rows)
    with pytest.raises(DataError, match=r"study s001, modality ct, file .*ct001\.png.*Restore"):
        predictor.predict(tmp_path / "new.csv")
    rest = predictor.predict(tmp_path / "new.csv", skip_bad=True)
    assert rest.ids == ["s000", "s002"]
    assert [error.study for error in rest.bad] == ["s001"]


@pytest.mark.parametrize(
    ("studies", "words"),
    [
        ({"age": "old"}, "not a number"),
        ({"ct": ""}, "no modality"),
        ({"colour": 1}, "the model reads ct, photo, age, site"),
        ({"ct": np.zeros((8, 8, 3), np.uint8)}, "3 channels"),
        ({"ct": "nowhere.png"}, "nowhere.png"),
    ],
)
def test_bad_requests(predictor: Predictor, studies: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        predictor.predict(studies)


def test_a_path_may_not_leave_the_data_root(study: Path, tmp_path: Path, predictor: Predictor) -> None:
    row = {"ct": str(study.parent / read_table(study.parent / "studies.csv")[0]["ct"])}
    write_table(tmp_path / "new.csv", [row])
    with pytest.raises(DataError, match="leaves the data root"):
        predictor.predict(tmp_path / "new.csv")


@pytest.mark.parametrize("word", ["NA", "nan", "None"])
def test_a_number_is_absent_in_prediction_as_in_training(predictor: Predictor, word: str) -> None:
    empty, said = (predictor.predict({"age": age, "site": "north"}) for age in ("", word))
    np.testing.assert_array_equal(said.probabilities["grade"], empty.probabilities["grade"])
    with pytest.raises(DataError, match="no modality"):
        predictor.predict({"age": word})


def test_an_infinite_number_is_refused(predictor: Predictor) -> None:
    with pytest.raises(DataError, match="'age' is 'inf', not a number"):
        predictor.predict({"age": "inf", "site": "north"})


def test_a_full_disk_leaves_the_earlier_bundle(
    data: StudyData, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(data, tmp_path / "bundle", "mail", {"width": "nano"})
    before = (folder / "config.json").read_bytes()

    def refuse(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("mailnet.bundle.store.save_file", refuse)
    with pytest.raises(RunError, match=r"No space left on device.*Free space"):
        save_bundle(folder, predictor.model, "mail", {"width": "nano"}, data.config, {})
    assert (folder / "config.json").read_bytes() == before


def test_two_written_into_one_folder_at_once_are_each_whole(
    data: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bundle"

    def overtaken(path: Path, values: object) -> None:  # between the weights and the description
        monkeypatch.setattr(store, "write_json", write_json)
        write(data, folder, "mail", {"width": "nano"})
        assert load(folder).bundle.model_name == "mail"
        write_json(path, values)

    monkeypatch.setattr(store, "write_json", overtaken)
    write(data, folder, "robust_mail", {"width": "nano"})
    assert load(folder).bundle.model_name == "robust_mail"  # that which ended later
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_unknown_modality_to_leave_out(predictor: Predictor) -> None:
    with pytest.raises(DataError, match="no modality 'mri'"):
        predictor.predict({"age": 3}, without=["mri"])


def test_a_newer_bundle_is_refused(changed: Callable) -> None:
    path = changed(lambda values: values.update(format=99, mailnet="9.0"))
    with pytest.raises(RunError, match=r"mailnet 9\.0.*Update mailnet"):
        load(path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda values: values.pop("tasks"),
        lambda values: values["model"].update(name="none"),
        lambda values: values["model"]["options"].update(colour=1),
        lambda values: values["preprocessing"]["ct"].update(size="large"),
    ],
)
def test_a_damaged_config_is_named(changed: Callable, edit: Callable[[dict], None]) -> None:
    with pytest.raises(RunError, match=r"config\.json"):
        load(changed(edit))


def test_weights_of_another_network_are_refused(changed: Callable) -> None:
    path = changed(lambda values: values["model"]["options"].update(width="tiny"))
    with pytest.raises(RunError, match=r"model\.safetensors"):
        load(path)


def test_damaged_weights_are_named(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    weights = tmp_path / "bundle" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(RunError, match=r"model\.safetensors: cannot be read.*Restore"):
        load(tmp_path)
    weights.unlink()
    with pytest.raises(RunError, match=r"model\.safetensors: cannot be read.*Restore"):
        load(tmp_path)


def test_no_bundle_and_an_unfinished_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no bundle"):
        load(tmp_path)
    (tmp_path / "study.yaml").touch()  # the folder of a study is no run
    with pytest.raises(RunError, match="holds no bundle"):
        load(tmp_path)
    (tmp_path / "run" / "bundle").mkdir(parents=True)  # the folder of a demo
    (tmp_path / "run" / "bundle" / "config.json").touch()
    with pytest.raises(RunError, match=r"holds models, and is none. Give .*run"):
        load(tmp_path)
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(RunError, match="has not finished"):
        load(tmp_path)


def test_unknown_device(bundle: Path) -> None:
    with pytest.raises(RunError, match="--device cpu"):
        load(bundle, device="warp:9")


def test_nothing_of_the_patients_is_in_the_bundle(bundle: Path, study: Path, data: StudyData) -> None:
    text = (bundle / "config.json").read_text() + (bundle / "README.md").read_text()
    for row in read_table(study.parent / "studies.csv"):
        for key in ("study", "patient", "ct", "photo"):
            assert row[key] not in text
    assert str(study.parent) not in text
    assert "not a medical device" in text


def test_a_random_network_repeats_itself(data: StudyData, study: Path, tmp_path: Path) -> None:
    predictor = load(write(data, tmp_path / "bundle", "robust_mail", {"width": "nano"}))
    rows = np.arange(6)
    first = predictor.predict_data(data, rows)["finding"]
    assert np.array_equal(first, predictor.predict_data(data, rows)["finding"])
    others = predictor.predict_data(data, rows[::-1], batch_size=4)["finding"][::-1]
    np.testing.assert_allclose(others, first, atol=1e-6)
    studies = read_table(study.parent / "studies.csv")[:3]
    studies = [{**row, **{name: study.parent / row[name] for name in ("ct", "photo")}} for row in studies]
    mixed = [studies[0], {"ct": studies[1]["ct"]}, studies[2]]
    np.testing.assert_allclose(predictor.predict(mixed).probabilities["finding"][::2], first[[0, 2]], atol=1e-6)
    assert predictor.noise == {"mode": "mean", "draws": 10, "seed": 0}


def test_load_is_offered_at_the_top(bundle: Path) -> None:
    assert list(mailnet.load(bundle.parent).modalities) == ["ct", "photo", "clinical"]
