"""A run exported: the files answer as ``Predictor`` does, and what does not is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from factory import Command, write_study
from mailnet.bundle import Predictor, Reliability, load, read_bundle, save_bundle, write_reliability
from mailnet.cli.export import print_export
from mailnet.data.config import dump_config, load_config
from mailnet.data.study import StudyData, load_study
from mailnet.deploy.export import export_run, half, measure, onnx_file, quantise, read_program
from mailnet.deploy.export import run as job
from mailnet.deploy.export.onnx_file import Session
from mailnet.deploy.export.program import Exported, trace
from mailnet.deploy.export.studies import Studies, answer_of_program
from mailnet.errors import ConfigError, MailnetError, RunError
from mailnet.evaluation.foreign import learn_foreign
from mailnet.nn.registry import create_model
from mailnet.trust.calibration import Calibrator

RUN: dict[str, Any] = {"rounds": {1: 1, 8: 1}}
NAMES = ("ct", "photo", "clinical")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of an untrained network on two images and a table, calibrated."""
    folder = tmp_path_factory.mktemp("exported")
    config = load_config(write_study(folder / "study", size=32), ["model.options.widths=[8,16]"])
    data = load_study(config, cache=folder / "cache")
    torch.manual_seed(0)
    network = create_model("mail", data.modalities, data.tasks, **config.model.options)
    for parameter in network.parameters():
        parameter.data.mul_(1.5)  # so that studies get different answers
    run = folder / "run"
    bundle = save_bundle(run / "bundle", network, "mail", config.model.options, config, data.tables)
    (run / "study.yaml").write_text(dump_config(config), encoding="utf-8")
    vector = Calibrator("multiclass", 3, "vector", (0.8, 1.1, 1.2), (0.1, -0.2, 0.0))
    write_reliability(bundle, Reliability({"finding": vector, "grade": Calibrator("binary", 2, "temperature", (0.7,))}))
    learn_foreign(load(run, "cpu", raw=True), run, 0.05, None, skip_bad=False, cache=folder / "cache")
    return run


@pytest.fixture(scope="module")
def traced(source: Path) -> Exported:
    return trace(read_bundle(source))


@pytest.fixture(scope="module")
def onnx(source: Path, traced: Exported, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Folder of all precisions, and what the command gave."""
    folder = tmp_path_factory.mktemp("onnx") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "trace", lambda bundle, noise: traced)
        patch.setattr(quantise, "RECIPES", quantise.RECIPES[:2])
        return (
            folder,
            export_run(
                source,
                folder,
                precisions=("int8", "fp32", "bf16"),
                cache=source.parent / "cache",
                accept_loss=True,
                **RUN,
            ),
        )


@pytest.fixture(scope="module")
def tested(source: Path, traced: Exported) -> Studies:
    data = load_study(load_config(source / "study.yaml"), cache=source.parent / "cache", splits=["test"])
    return Studies(data, traced.bundle, traced.modalities, "test")


@pytest.fixture
def at_once(source: Path, traced: Exported, onnx: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Options of an export whose file is there already, so that it takes no time."""
    monkeypatch.setattr(job, "trace", lambda bundle, noise: traced)
    made = onnx[0] / "fp32" / "model.onnx"
    monkeypatch.setattr(onnx_file, "write_onnx", lambda path, exported: shutil.copyfile(made, path))
    return {"run": source, "cache": source.parent / "cache", **RUN}


def compare(answer: Callable[..., Any], studies: Studies, predictor: Predictor, tolerance: float) -> None:
    data: StudyData = studies.data
    for without in ((), ("ct",), ("photo", "clinical")):
        for size in (1, 8):
            rows = np.arange(len(data))[: 4 if size == 1 else None]
            expected = predictor.predict_data(data, rows, without=without)
            given = studies.ask(answer, rows, size, without)
            for task, values in expected.items():
                np.testing.assert_allclose(given[task], values, rtol=0, atol=tolerance)


def test_onnx_answers_as_the_predictor(source: Path, onnx: tuple[Path, Any], tested: Studies) -> None:
    session = Session(onnx[0] / "fp32" / "model.onnx", 1)
    assert list(session.inputs) == [*NAMES, *(f"present.{name}" for name in NAMES)]
    assert session.inputs["ct"].shape[1:] == [1, 32, 32]
    assert session.inputs["present.ct"].type == "tensor(bool)"
    assert session.outputs == ["finding", "grade", "raw.finding", "raw.grade", "features.ct", "features.photo"]
    compare(session.run, tested, load(source, "cpu"), 1e-5)


def test_onnx_gives_what_foreign_studies_are_told_by(source: Path, onnx: tuple[Path, Any], tested: Studies) -> None:
    predictor = load(source, "cpu")
    assert predictor.foreign is not None
    session = Session(onnx[0] / "fp32" / "model.onnx", 1)
    for without in ((), ("ct",)):
        given = tested.ask(session.run, np.arange(4), 4, without)
        expected = predictor.features(tested.batch(np.arange(4), without), predictor.foreign.layers)
        np.testing.assert_allclose(given["features.photo"], expected["photo"], rtol=1e-3, atol=1e-4)
    assert np.isnan(given["features.ct"]).all()


def test_a_folder_is_a_bundle_without_weights(source: Path, onnx: tuple[Path, Any]) -> None:
    folder, result = onnx
    names = {path.name for path in (folder / "int8").iterdir()}
    assert names == {"model.onnx", "export.json", "config.json", "calibration.json", "README.md", "foreign.json",
                     "foreign.safetensors"}  # fmt: skip
    facts = json.loads((folder / "int8" / "export.json").read_text())
    assert {path.name for path in folder.iterdir()} == {"fp32", "bf16", "int8"} == set(result["folders"])
    assert (facts["kind"], facts["runtime"], facts["noise"], facts["opset"]) == ("int8", "onnx", None, 20)
    assert facts["absence"] is True
    assert [row["model"] for row in facts["table"]] == ["original", "fp32", "int8", "bf16"]
    assert {row["model"]: row["bytes"] for row in facts["table"]}["int8"] == facts["bytes"]
    for row in facts["table"]:
        assert set(row["latency_ms"]) == {"1", "all"}
        assert set(row["tasks"]["grade"]) == {"balanced_accuracy", "macro_auroc", "ece"}
    assert {row["split"] for row in facts["table"]} == {"test"}
    whole = json.loads((folder / "fp32" / "export.json").read_text())["verification"]
    assert whole["same_top"] == 1
    assert whole["max_difference"] <= whole["tolerance"]
    assert whole["without"] == [[name] for name in NAMES]
    assert [one["method"] for one in facts["quantisation"]["tried"]] == ["MinMax", "MinMax"]


def test_lower_precision_is_near_and_smaller(onnx: tuple[Path, Any], tested: Studies, source: Path) -> None:
    folder, _ = onnx
    predictor = load(source, "cpu")
    compare(Session(folder / "bf16" / "model.onnx", 1).run, tested, predictor, 0.03)
    compare(Session(folder / "int8" / "model.onnx", 1).run, tested, predictor, 0.15)
    sizes = [(folder / name / "model.onnx").stat().st_size for name in ("fp32", "bf16")]
    assert sizes[1] < 0.9 * sizes[0]  # of so small a network much is no weight
    import onnx as library

    operations = [node.op_type for node in library.load(folder / "int8" / "model.onnx").graph.node]
    assert {"QuantizeLinear", "DequantizeLinear"} <= set(operations)
    assert "BatchNormalization" not in operations


def test_package_of_torch_answers_as_the_predictor(
    source: Path, traced: Exported, tested: Studies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "trace", lambda bundle, noise: traced)
    result = export_run(source, tmp_path / "out", kind="torch", precisions=("fp32", "bf16"),
                        cache=source.parent / "cache", **RUN)  # fmt: skip
    answers = [answer_of_program(read_program(Path(path) / "model.pt2"), NAMES) for path in result["folders"].values()]
    predictor = load(source, "cpu")
    compare(answers[0], tested, predictor, 1e-5)
    compare(answers[1], tested, predictor, 0.05)
    for path, dtype in zip(result["folders"].values(), (torch.float32, torch.bfloat16), strict=True):
        kept = read_program(Path(path) / "model.pt2").state_dict().values()
        kernels = [x for x in kept if x.ndim == 4 and min(x.shape[1:]) > 1]
        assert {x.dtype for x in kernels} == {dtype}  # none is kept twice
        assert all(x.is_contiguous(memory_format=torch.channels_last) for x in kernels)  # half the time
    note = json.loads((tmp_path / "out" / "bf16" / "export.json").read_text())["note"]
    assert (half.bf16_units() or "no bf16 units") in note


def test_a_wrong_answer_is_refused_and_leaves_nothing(
    at_once: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(Session):
        def run(self, arrays: Any) -> dict[str, np.ndarray]:
            found = super().run(arrays)
            return found | {"raw.grade": found["raw.grade"] + 2e-4}

    monkeypatch.setattr(onnx_file, "Session", Wrong)
    with pytest.raises(RunError, match=r"does not answer as the original: .*'grade' differ by 0.0002.*batches of 1"):
        export_run(out=tmp_path / "out", **at_once)
    assert list(tmp_path.iterdir()) == []


def test_int8_that_loses_accuracy_is_refused_and_the_rest_written(
    at_once: dict[str, Any],
    onnx: tuple[Path, Any],
    mailnet: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = onnx[0] / "int8" / "model.onnx"
    monkeypatch.setattr(
        quantise, "quantise", lambda source, target, studies, advance: dict(at=shutil.copyfile(made, target).name)
    )
    monkeypatch.setattr(measure, "loss", lambda before, after: 0.0061)
    monkeypatch.setattr(measure.latencies, "__defaults__", (RUN["rounds"],))
    out = tmp_path / "out"
    command = ["export", at_once["run"], "--out", out, "--cache", at_once["cache"], "--precision", "int8"]
    status, _, err = mailnet(*command, "--precision", "fp32")
    assert status == 2
    assert "int8 loses 0.61 points of balanced accuracy on the test studies, more than 0.5; written were fp32" in err
    assert "Give --accept-loss" in err
    assert [path.name for path in out.iterdir()] == ["fp32"]
    shutil.rmtree(out)
    status, _, err = mailnet(*command, "--accept-loss")
    assert status == 0, err
    facts = json.loads((out / "export.json").read_text())
    assert (facts["kind"], facts["table"][1]["loss"]) == ("int8", 0.0061)  # what was accepted is told


@pytest.mark.parametrize(("val", "test"), [(0.0, 1.0), (1.0, 0.0)])
def test_other_studies_must_be_of_validation_and_need_not_be_of_test(
    at_once: dict[str, Any], tmp_path: Path, val: float, test: float
) -> None:
    study = write_study(tmp_path / "other", n=30, split={"train": 0.0, "val": val, "test": test})
    if val == 0:
        with pytest.raises(ConfigError, match="no validation studies to verify an export on"):
            export_run(out=tmp_path / "out", study=study, **at_once)
        return
    table = export_run(out=tmp_path / "out", study=study, **at_once)["table"]
    assert {(row["split"], row["n"]) for row in table} == {("val", 30)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precisions": ("fp16",)}, "'fp16' is no precision"),
        ({"kind": "tflite"}, "'tflite' is no format"),
        ({"kind": "torch", "precisions": ("int8",)}, "int8 is made for onnxruntime only"),
        ({"noise": "loud"}, "'loud' is no noise mode"),
        ({"noise": "off"}, "draws no random numbers"),
    ],
)
def test_what_there_is_not_is_refused(source: Path, tmp_path: Path, options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        export_run(source, tmp_path / "out", **options)


def test_other_folders_are_not_replaced(source: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    for folder in (tmp_path, source, source / "bundle"):
        with pytest.raises(MailnetError, match=r"holds something else|is the model itself"):
            export_run(source, folder)


def test_command(at_once: dict[str, Any], mailnet: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure.latencies, "__defaults__", (RUN["rounds"],))
    out = tmp_path / "out"
    status, text, err = mailnet("export", at_once["run"], "--out", out, "--cache", at_once["cache"], "--json")
    assert status == 0, err
    assert json.loads(text)["folders"] == {"fp32": str(out)}
    assert (out / "model.onnx").is_file()


def test_what_is_printed(onnx: tuple[Path, Any], capsys: pytest.CaptureFixture[str]) -> None:
    print_export(onnx[1])
    text = capsys.readouterr().out
    assert "8 x, all threads" in text
    assert "fp32: probabilities differ by up to" in text
    assert "100.00% of answers are the same (12 val studies, 1 and 8 at a time, also without each modality)" in text
