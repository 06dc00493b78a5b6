"""What the service answers: the offline prediction, whoever asks beside."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from served import client, client_of, colour, grey, png, refusal, run, table, write_run
from starlette.testclient import TestClient

from dicom_files import write, write_series
from mailnet.bundle import load
from mailnet.data.config import ImageConfig, VolumeConfig
from mailnet.data.images import load_image
from mailnet.data.preprocess import prepare
from mailnet.data.scan import Scan
from mailnet.deploy.service.loading import load_models
from mailnet.deploy.service.preview import preview
from mailnet.deploy.service.schemas import ExplainAnswer, ModelsAnswer, PredictAnswer, PreviewAnswer
from mailnet.deploy.service.served import Asked, ready
from mailnet.deploy.service.settings import Settings
from mailnet.errors import DataError
from mailnet.explain import explain
from mailnet.specs import ModalitySpec

__all__ = ["client", "run"]

Offline = dict[str, Any]
CELLS: list[dict[str, Any]] = [{"age": 61, "site": "north"}, {"age": 40.5}, {}, {"site": "nowhere"}]


def write_studies(folder: Path) -> list[tuple[Offline, dict[str, bytes], dict[str, Any]]]:
    """Eight studies with different modalities: as ``predict`` takes them, and as the form does."""
    studies = []
    for k in range(8):
        files: dict[str, bytes] = {}
        if k % 4 != 1:
            files["ct"] = grey(k, 20 + 3 * k)
        if k % 4 != 2:
            files["photo"] = colour(k, 30)
        offline: Offline = {"id": f"study {k}", **CELLS[k % 4]}
        for name, content in files.items():
            path = folder / f"{name}{k}.png"
            path.write_bytes(content)
            offline[name] = str(path)
        studies.append((offline, files, CELLS[k % 4]))
    return studies


def same(answer: Any, expected: Any) -> None:
    """Equal, but for the last digits of numbers, which depend on how many studies a network is given at once."""
    if isinstance(expected, dict):
        assert list(answer) == list(expected)
        for key, value in expected.items():
            same(answer[key], value)
    elif isinstance(expected, float):
        assert answer == pytest.approx(expected, abs=2e-6)
    else:
        assert answer == expected


def test_each_answer_is_the_offline_one_whoever_asks_beside(run: Path, client: TestClient, tmp_path: Path) -> None:
    studies = write_studies(tmp_path)
    predictor = load(run, "cpu")

    def ask(study: tuple[Offline, dict[str, bytes], dict[str, Any]]) -> Any:
        offline, files, cells = study
        data = {"id": offline["id"], **(table(**cells) if cells else {})}
        return client.post("/v1/predict?without=true", files=files, data=data)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, studies))
    for answer, (offline, _, _) in zip(answers, studies, strict=True):
        assert answer.status_code == 200, answer.text
        found = PredictAnswer.model_validate(answer.json()).model_dump(exclude_unset=True)
        expected = predictor.predict([offline])
        same(answer.json()["study"], json.loads(json.dumps(expected.as_dicts()[0])))
        assert found["alpha"] == 0.2
        here = [name for name in predictor.modalities if name not in found["study"]["absent"]]
        assert sorted(found["without"]) == (sorted(here) if len(here) > 1 else [])
        for name, tasks in found["without"].items():
            hidden = predictor.predict([offline], without=[name]).as_dicts()[0]["tasks"]
            same(tasks, {task: said["probabilities"] for task, said in hidden.items()})


def test_studies_of_one_batch_do_not_meet(run: Path, tmp_path: Path) -> None:
    served = load_models([run], Settings(), "cpu")["made-up"]
    predictor = load(run, "cpu")
    asked, expected = [], []
    for offline, files, cells in write_studies(tmp_path):
        sections: Any = predictor.bundle.preprocessing
        images = {name: load_image(offline[name], sections[name]) for name in files}
        asked.append(Asked(images, cells, str(offline["id"])))
        expected.append(predictor.predict([offline]).as_dicts()[0])
    bad = Asked({}, {"age": "old"}, "bad")
    found = served.predict([*asked[:3], bad, *asked[3:]])
    refused = found.pop(3)
    assert isinstance(refused, Exception)
    assert "age" in str(refused)
    for answer, study in zip(found, expected, strict=True):
        assert isinstance(answer, dict)
        same(answer["study"], study)


def test_what_the_models_say_of_themselves(client: TestClient) -> None:
    answer = client.get("/v1/models").json()
    (model,) = ModelsAnswer.model_validate(answer).models
    assert (model.name, model.study, model.alpha) == ("made-up", "made-up", 0.2)
    assert answer["models"][0]["modalities"]["clinical"]["columns"] == [
        {"name": "age", "kind": "numeric"},
        {"name": "site", "kind": "categorical", "categories": ["north", "south"]},
    ]
    assert model.explains[0] == "layer_cam"
    assert (model.calibrated, model.sets, model.foreign) == (True, True, False)
    assert client.get("/healthz").json() == {"status": "ok"}


def test_headers_of_two_patients_are_told_as_offline(run: Path, client: TestClient, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    paths = {
        "ct": write(tmp_path / "ct.dcm", random.integers(0, 255, (32, 32), np.uint8)),
        "photo": write(tmp_path / "photo.dcm", random.integers(0, 255, (32, 32, 3), np.uint8), PatientID="another"),
    }
    expected = load(run, "cpu").predict({**{name: str(path) for name, path in paths.items()}, "site": "nowhere"})
    files = {name: path.read_bytes() for name, path in paths.items()}
    answer = client.post("/v1/predict", files=files, data=table(site="nowhere"))
    (warnings,) = expected.warnings()
    assert (len(warnings), "different patients (PatientID)" in warnings[0]) == (2, True)
    assert answer.json()["study"]["warnings"] == warnings
    error = refusal(client.post("/v1/dicom?heatmap=none", files=files), 422)
    assert "different patients" in error["message"]


def test_explanations_are_those_of_the_library(run: Path, client: TestClient, tmp_path: Path) -> None:
    offline, files, cells = write_studies(tmp_path)[0]
    url = "/v1/explain?task=grade&method=layer_cam&target=low"
    answer = client.post(url, files=files, data=table(**cells)).json()
    found = ExplainAnswer.model_validate(answer)
    predictor = load(run, "cpu")
    batch, _ = predictor.read([offline])
    expected = explain(predictor.model, batch, "grade", "low", "layer_cam")
    assert (found.task, found.target, list(found.maps)) == ("grade", "low", ["ct", "photo"])
    assert list(found.shares) == ["ct", "photo", "clinical"]
    for name, one in found.maps.items():
        values = expected.maps[name][0].numpy()
        grey_levels = np.asarray(Image.open(io.BytesIO(base64.b64decode(one.png))))
        assert one.low == 0
        step = (one.high - one.low) / 255
        np.testing.assert_allclose(one.low + grey_levels * step, values, atol=step)


def test_of_several_models_one_is_named(run: Path) -> None:
    with client_of(run, f"second={run / 'bundle'}") as client:
        assert [model["name"] for model in client.get("/v1/models").json()["models"]] == ["made-up", "second"]
        files = {"ct": grey()}
        one, other = (client.post(f"/v1/predict?model={name}", files=files) for name in ("made-up", "second"))
        assert one.json()["study"] == other.json()["study"]
        assert client.post("/v1/predict", files=files).status_code == 422


def test_a_series_may_come_as_files_or_as_a_zip(client: TestClient, tmp_path: Path) -> None:
    plane = np.random.default_rng(0).integers(0, 255, (32, 32), np.uint8)
    path = write(tmp_path / "one.dcm", plane)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("series/", "")
        archive.writestr("__MACOSX/._one", b"x")
        archive.write(path, "series/IM0001")
        archive.writestr("readme.txt", "of no kind that is known")
    answers = [
        client.post("/v1/predict", files={"ct": content}).json()["study"]
        for content in (path.read_bytes(), packed.getvalue())
    ]
    assert answers[0] == answers[1] != client.post("/v1/predict", files={"ct": grey(9)}).json()["study"]
    series = write_series(tmp_path / "series", np.stack([plane, plane, plane]))
    several = [("ct", (file.name, file.read_bytes())) for file in sorted(series.iterdir())]
    answer = client.post("/v1/predict", files=several)
    assert "3 planes" in answer.json()["error"]["message"]


def test_a_field_without_a_file_is_an_absent_modality(client: TestClient) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="photo"; filename=""\r\n\r\n\r\n'
    image = b'--b\r\nContent-Disposition: form-data; name="ct"; filename="a"\r\n\r\n' + grey() + b"\r\n--b--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=b"}
    body = client.post("/v1/predict", content=part + image, headers=headers)
    assert body.json()["study"]["absent"] == ["photo", "clinical"]
    assert body.json()["study"]["id"] == "row 1"


def test_preview_shows_the_files_own_pixels(client: TestClient) -> None:
    image = np.random.default_rng(1).integers(0, 255, (40, 20), np.uint8)
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    answer = client.post("/v1/preview", files={"ct": content.getvalue()}).json()
    found = PreviewAnswer.model_validate(answer).images["ct"]
    assert (found.shape, found.channels, found.bits, found.window) == ([40, 20], 1, 8, (0, 255))
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(found.values), np.uint8).reshape(40, 20), image)
    # Of 32 x 32 pixels the network sees 16 columns of image and 8 of padding on either side.
    np.testing.assert_allclose(found.covers, [(0, 1), (-0.5, 1.5)])


def shown(answer: dict[str, Any]) -> np.ndarray:
    """The file's values of a preview."""
    stored = np.frombuffer(base64.b64decode(answer["values"]), np.dtype("u1" if answer["bits"] == 8 else "<u2"))
    slope, intercept = answer["rescale"]
    return np.asarray(stored.reshape(*answer["shape"], answer["channels"]) * slope + intercept)


def test_preview_of_a_volume_keeps_units_and_is_small() -> None:
    values = np.arange(80 * 16 * 16, dtype=np.int16).reshape(80, 16, 16, 1) - 1024
    section = VolumeConfig.model_validate({"kind": "volume", "size": 16, "window": {"center": 40, "width": 400}})
    answer = preview(Scan(values, (2.0, 1.0, 0.5), "HU"), section)
    assert (answer["shape"], answer["window"], answer["unit"], answer["aspect"]) == ([64, 16, 16], [-160, 240], "HU", 2)
    assert shown(answer)[0].tolist() == values[0].tolist()
    assert shown(answer)[-1].tolist() == values[-1].tolist()
    large = preview(Scan(np.zeros((70, 700, 700, 1), np.uint8)), VolumeConfig.model_validate({"kind": "volume"}))
    assert np.prod(large["shape"]) <= 2**23


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.uint16, np.int32])
def test_preview_keeps_whole_numbers_whole(kind: Any) -> None:
    most = min(int(np.iinfo(kind).max), 30_000)
    values = np.linspace(max(int(np.iinfo(kind).min), -30_000), most, 3 * 40 * 1100).astype(kind)
    section = VolumeConfig.model_validate({"kind": "volume", "percentiles": [1, 99]})
    small = preview(Scan(values.reshape(3, 1100, 40, 1)), section)
    assert (small["shape"], small["rescale"][0]) == ([3, 1024, 37], 1)
    np.testing.assert_allclose([shown(small).min(), shown(small).max()], [values.min(), values.max()], atol=60)
    same = preview(Scan(values.reshape(30, 40, 110, 1)), section)
    np.testing.assert_array_equal(shown(same).ravel(), values)


def test_preview_turns_bright_low_values_round() -> None:
    values = np.array([[[[0], [100], [255]]] * 3], np.uint8)
    answer = preview(Scan(values, mirror=255.0), ImageConfig(size=(8, 8)))
    network = prepare(Scan(values, mirror=255.0), ImageConfig(size=(8, 8), resize="stretch"))
    pixels = shown(answer)[..., 0]
    low, high = answer["window"]
    assert low < high
    assert pixels[0, 0] > pixels[0, 1] > pixels[0, 2]
    assert network[0, 0, 0] > network[0, 0, -1]


def test_preview_takes_what_the_network_takes(client: TestClient) -> None:
    for files in ({"ct": colour()}, {"photo": grey()}):
        told = [refusal(client.post(url, files=files), 422) for url in ("/v1/preview", "/v1/predict")]
        assert told[0] == told[1]
        assert "channel" in told[0]["message"]
    red = np.zeros((1, 4, 4, 3), np.uint8)
    red[..., 0] = 200
    grey_of = preview(Scan(red), ImageConfig(channels=1, convert=True, size=(8, 8)))
    assert grey_of["channels"] == 1
    assert set(shown(grey_of).ravel()) == {60}  # 0.299 of it
    with pytest.raises(DataError, match="one plane"):
        preview(Scan(red), VolumeConfig(kind="volume", channels=3))
    with pytest.raises(DataError, match="1 planes"):
        preview(Scan(red), ImageConfig(channels=3, slice="middle", neighbours=1))


def test_a_plane_that_a_mask_chooses_becomes_a_report(tmp_path: Path) -> None:
    run = write_run(tmp_path, {"width": "nano"}, modalities={"photo": None, "clinical": None})[0]
    facts = json.loads((run / "bundle/config.json").read_text())
    facts["preprocessing"]["ct"] |= {"slice": "largest", "mask": "lesion"}
    (run / "bundle/config.json").write_text(json.dumps(facts))
    plane = np.random.default_rng(0).integers(0, 255, (32, 32), np.uint8)
    files = {"ct": write(tmp_path / "ct.dcm", plane).read_bytes(), "lesion": png((plane > 200).astype(np.uint8))}
    with client_of(run) as client:
        with zipfile.ZipFile(io.BytesIO(client.post("/v1/dicom", files=files).content)) as archive:
            assert archive.namelist() == ["report.dcm", "prediction.json"]
        assert "mask" in refusal(client.post("/v1/dicom?heatmap=sc", files=files), 422)["message"]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_prepared_images_pass_the_predictor_unchanged(kind: Any) -> None:
    random = np.random.default_rng(0)
    specs = {"ct": ModalitySpec("ct", channels=3, size=(9, 17)), "mr": ModalitySpec("mr", "volume", 2, (8, 9, 10))}
    sections = ready({"ct": ImageConfig(channels=3), "mr": VolumeConfig(kind="volume", channels=2)}, specs)
    for name, spec in specs.items():
        assert spec.size is not None
        image = random.integers(0, np.iinfo(kind).max, (spec.channels, *spec.size), kind, endpoint=True)
        lying = np.moveaxis(image, 0, -1)
        scan = Scan(lying if spec.kind == "volume" else lying[None])
        np.testing.assert_array_equal(prepare(scan, sections[name]), image)  # type: ignore[arg-type]
