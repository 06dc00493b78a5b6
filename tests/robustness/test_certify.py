"""Certificates of runs: what is promised, of what, and that a kill loses nothing."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damaged_run import write_run
from linear_run import write_linear_run
from scipy import stats
from torch import Tensor

from factory import read_table, write_table
from mailnet.bundle import load
from mailnet.cli import main
from mailnet.cli.certify import parse_sigma
from mailnet.data.config import dump_config, load_config
from mailnet.errors import ConfigError, DataError, RunError
from mailnet.nn.registry import create_model
from mailnet.robustness.certificate import certify as module
from mailnet.robustness.certificate.base import BaseClassifier, find_questions
from mailnet.robustness.certificate.certified import Resample, radii, share, summarise
from mailnet.robustness.certificate.certify import certify_run
from mailnet.robustness.certificate.lines import Lines
from mailnet.robustness.certificate.smoothing import ABSTAIN, Certificate, certify_all
from mailnet.specs import TaskSpec


@pytest.fixture(autouse=True)
def few_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SELECTION", 5)


def certified(run: Path, **options: Any) -> dict[str, Any]:
    chosen = {"sigma": {None: 0.25}, "draws": 20, "cache": run.parent / "cache", "device": "cpu"} | options
    return certify_run(run, **chosen)


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "certificate.jsonl").read_text().splitlines()]


def test_the_radius_of_a_linear_classifier_on_images_is_just_below_its_distance() -> None:
    weights = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    x = torch.full((1, 3, 4), 0.5)
    offset = float((weights * x[0]).sum()) - 0.4  # the image lies 0.4 / |w| from the plane

    def answers(noisy: dict[str, Tensor]) -> dict[str, np.ndarray]:
        side = ((noisy["a"][:, 0] * weights).sum((1, 2)) > offset).long().numpy()
        return {"side": side, "other": 1 - side}

    distance = 0.4 / float(weights.norm())
    found = certify_all(
        answers, {"a": x}, {"a": 0.1}, draws=100_000, batch=20_000, generator=torch.Generator().manual_seed(1)
    )
    assert {name: each.answer for name, each in found.items()} == {"side": 1, "other": 0}
    assert found["side"].radius == found["other"].radius  # both questions were asked about the same noise
    assert 0.96 * distance < found["side"].radius_of(0.1) <= distance


def test_shares_have_intervals_that_hold_the_truth_as_often_as_said() -> None:
    random = np.random.default_rng(0)
    of_count = [share(np.arange(60) < count) for count in range(61)]
    for chance in (0.05, 0.5, 0.9):
        found = [of_count[count] for count in random.binomial(60, chance, 3000)]
        held = np.mean([each is not None and each["low"] <= chance <= each["high"] for each in found])
        assert 0.945 < held < 1.0
    assert share(np.zeros(0, bool)) is None
    assert share(np.ones(5, bool)) == {"value": 1.0, "low": pytest.approx(0.025 ** (1 / 5)), "high": 1.0}


def test_patients_of_several_studies_are_redrawn_together() -> None:
    chosen, patients = np.repeat([True, False], 100), np.repeat(np.arange(40), 5)
    alone, together = share(chosen), share(chosen, Resample(patients, 2000, 0))
    assert alone is not None
    assert together is not None
    assert alone["value"] == together["value"] == 0.5
    assert together["high"] - together["low"] == pytest.approx(2 * 1.96 * 0.5 / 40**0.5, rel=0.15)  # of 40 patients
    assert share(np.ones(200, bool), Resample(patients, 50, 0)) == share(np.ones(40, bool))


def test_the_curve_counts_right_answers_that_reach_the_radius() -> None:
    question = find_questions({"t": TaskSpec("t", ("a", "b", "c"))}, ["t"])[0]
    most = radii(100, 0.001)[-1]
    rows = [(1, most, 1), (1, 0.5, 1), (0, 2.0, 0), (ABSTAIN, 0.0, 1), (2, 9.0, 2)]
    given = [{"found": {"t": [answer, radius, 0.9, chosen]}} for answer, radius, chosen in rows]
    labels, settings = np.array([1, 1, 1, 1, -1]), {"sigma": {"x": 0.5}, "draws": 100, "level": 0.001}
    found = summarise(question, given, labels, np.array([1, 1, 1, 0, 0]), settings)
    assert found["n"] == 4
    shown = ("plain_accuracy", "smoothed_accuracy", "certified_accuracy", "abstained")
    assert [found[key]["value"] for key in shown] == [0.75, 0.75, 0.5, 0.25]
    assert [at["value"] for at in found["curve"]] == [0.5 if at["radius"] <= 0.5 else 0.25 for at in found["curve"]]
    assert found["curve"][-1]["l2"] == {"x": pytest.approx(most / 2)}
    assert most == pytest.approx(stats.norm.ppf(0.001 ** (1 / 100)), abs=1e-5)


def test_a_multilabel_task_is_a_question_a_class() -> None:
    first, second = find_questions({"t": TaskSpec("t", ("a", "b"), "multilabel")}, ["t"])
    assert (first.name, second.name) == ("t: a", "t: b")
    assert second.labels({"t": np.array([[0, 1], [1, np.nan]])}).tolist() == [1, -1]
    assert first.answers({"t": np.array([[0.6, 0.1], [0.4, 0.9]])}).tolist() == [1, 0]


def test_a_killed_command_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path, n=30)
    whole = certified(run, out=tmp_path / "whole")
    assert (whole["n"], whole["of"]) == (6, 6)
    calls: list[int] = []

    def counted(*given: Any, stop: int = 99, **options: Any) -> dict[str, Certificate]:
        if len(calls) == stop:
            raise KeyboardInterrupt
        calls.append(1)
        return certify_all(*given, **options)

    monkeypatch.setattr(module, "certify_all", lambda *given, **options: counted(*given, stop=3, **options))
    with pytest.raises(KeyboardInterrupt):
        certified(run)
    assert not (run / "certificate.json").exists()
    assert not (run / "certificate.jsonl").exists()
    (stopped,) = (run / "certificate.progress").glob("*/certificate.jsonl")
    with stopped.open("a") as file:
        file.write('{"study": 1, "fou')  # as a kill may leave it
    monkeypatch.setattr(module, "certify_all", counted)
    assert certified(run)["tasks"] == whole["tasks"]
    assert len(calls) == 6
    assert sorted(line["row"] for line in lines(run)[1:]) == sorted(
        line["row"] for line in lines(tmp_path / "whole")[1:]
    )
    certified(run)
    assert len(calls) == 6
    certified(run, draws=21)  # another setting starts anew
    assert len(calls) == 12
    assert not (run / "certificate.progress").exists()


def test_a_mistaken_command_loses_nothing_of_other_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_linear_run(tmp_path, studies=6)
    done: list[int] = []
    said: list[str] = []

    def asked(studies: int, stop: int, **options: Any) -> int:
        """Return how many studies were certified until the command ended or was stopped."""
        done.clear()

        def counted(base: BaseClassifier, *_: Any, **__: Any) -> dict[str, Certificate]:
            if len(done) == stop:
                raise KeyboardInterrupt
            done.append(1)
            return {question.name: Certificate(0, 0.5, 0.9, 0) for question in base.questions}

        monkeypatch.setattr(module, "certify_all", counted)
        with suppress(KeyboardInterrupt):
            certified(run, studies=studies, say=said.append, **options)
        return len(done)

    def files() -> list[bytes]:
        return [(run / name).read_bytes() for name in ("certificate.json", "certificate.jsonl")]

    assert asked(2, 99) == 2
    whole = files()
    assert asked(6, 2) == 2  # goes on for more studies, and is stopped
    assert asked(6, 1, sigma={None: 0.5}) == 1  # was not meant
    assert files() == whole
    assert asked(6, 99) == 2
    assert len(lines(run)) == 1 + 6
    assert asked(6, 99, sigma={None: 0.5}) == 5
    assert lines(run)[0]["settings"]["sigma"]["ct"] == 0.5
    assert not (run / "certificate.progress").exists()
    others = [line for line in said if "1 of them, can be gone on with too" in line]
    assert [line for line in said if line not in others] == [
        f"Certified before with these settings: {known} of 6 studies" for known in (2, 4, 1)
    ]
    assert len(others) == 2  # of the mistaken one, and of the one that then went on


def test_lines_that_cannot_be_read_or_written_are_one_clear_error(tmp_path: Path) -> None:
    path, finished = tmp_path / "progress" / "lines", tmp_path / "finished"
    made = Lines(path, {"sigma": 1}, finished)
    made.add(3, {"row": 5})
    assert Lines(path, {"sigma": 1}, finished).found == {3: {"study": 3, "row": 5}}
    shutil.rmtree(path.parent)
    with pytest.raises(RunError, match=r"lines: cannot be written.*it goes on where it was"):
        made.add(4, {"row": 6})
    finished.mkdir()
    with pytest.raises(RunError, match="finished: cannot be read"):
        Lines(path, {"sigma": 1}, finished)


def test_more_studies_include_the_fewer(tmp_path: Path) -> None:
    run = write_run(tmp_path, n=30)
    certified(run, studies=2)
    few = lines(run)
    assert certified(run, studies=5)["n"] == 5
    assert lines(run)[:3] == few
    assert len(lines(run)) == 6


def test_noise_is_added_to_the_named_modalities_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path, n=60)
    table = tmp_path / "study" / "studies.csv"
    rows = read_table(table)
    rows[24]["photo"] = ""
    write_table(table, rows)
    spread: dict[str, set[bool]] = {"ct": set(), "photo": set(), "clinical": set()}
    ask = BaseClassifier.__call__

    def noted(self: BaseClassifier, noisy: dict[str, Tensor]) -> dict[str, np.ndarray]:
        for name, x in noisy.items():
            spread[name].add(bool(x.std(0).max() > 0))
            if name == "photo":
                assert float(x.min()) < 0 or float(x.max()) > 1  # clipped by the base classifier, not before
        return ask(self, noisy)

    monkeypatch.setattr(BaseClassifier, "__call__", noted)
    result = certified(run, sigma={"photo": 0.5}, tasks=["grade"])
    assert spread == {"ct": {False}, "photo": {True}, "clinical": {False}}
    assert (result["promises_nothing_about"], result["left_out"], result["n"]) == (["ct", "clinical"], 1, 11)
    assert list(result["tasks"]) == ["grade"]
    assert result["tasks"]["grade"]["curve"][-1]["l2"].keys() == {"photo"}
    text = (run / "certificate.json").read_text() + (run / "certificate.jsonl").read_text()
    assert not any(row["study"] in text or row["patient"] in text for row in rows)


def test_every_copy_of_a_random_network_has_numbers_of_its_own(tmp_path: Path) -> None:
    predictor = load(write_run(tmp_path, model="robust_mail", n=30), "cpu")
    questions = find_questions(predictor.tasks, ["finding"])
    x = torch.rand(1, 1, 32, 32).expand(6, -1, -1, -1)
    seen: list[Tensor] = []
    predictor.model.register_forward_hook(lambda model, given, found: seen.append(found["finding"]))

    def asked(noise: Any) -> Tensor:
        base = BaseClassifier(predictor, questions, noise)
        base.start(torch.Generator().manual_seed(0))
        assert base({"ct": x})["finding"].shape == (6,)
        return seen[-1]

    assert len(torch.unique(asked("sample"), dim=0)) == 6
    assert torch.allclose(asked("off"), asked("off")[:1].expand(6, -1), atol=1e-5)
    # Random filters are drawn once a pass, so that copies of one pass would not be independent.
    assert BaseClassifier(predictor, questions, "sample").singly
    assert not BaseClassifier(predictor, questions, "off").singly
    predictor.model = create_model("robust_mail", predictor.modalities, predictor.tasks, width="nano", rpf=None)
    assert not BaseClassifier(predictor, questions, "sample").singly
    assert BaseClassifier(load(write_run(tmp_path, "plain", n=30), "cpu"), questions, "sample").noise is None


@pytest.mark.parametrize("noise", ["sample", "off"])
def test_a_random_network_is_certified_repeatably(noise: str, tmp_path: Path) -> None:
    run = write_run(tmp_path, model="robust_mail", n=30)
    first = certified(run, noise=noise, draws=8, studies=2)
    assert first["model"]["noise"] == noise
    assert certified(run, noise=noise, draws=8, studies=2, out=tmp_path / "again")["tasks"] == first["tasks"]


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("one"), n=30)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sigma": {None: 0.0}}, "sigma must be positive, got 0"),
        ({"sigma": {"ct": -1.0}}, "modality ct: sigma must be positive"),
        ({"sigma": {None: float("nan")}}, "must be positive"),
        ({"sigma": {"mri": 0.1}}, "no modality 'mri'.*ct, photo, clinical"),
        ({"sigma": {"clinical": 0.1}}, "is a table"),
        ({"sigma": {}}, "nothing can be promised"),
        ({"tasks": ["stage"]}, "no task 'stage'"),
        ({"draws": 0}, "at least 1"),
        ({"studies": 0}, "at least 1"),
        ({"level": 1.5}, "between 0 and 1"),
        ({"noise": "mean"}, "Choose sample or off"),
    ],
)
def test_wrong_questions_get_one_answer(options: dict[str, Any], words: str, one_run: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        certified(one_run, **options)


def test_a_sigma_is_proposed_where_none_is_given(one_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Give --sigma 0.25, or NAME=0.25 for one image. Usual are"):
        certified(one_run, sigma={})
    trained = tmp_path / "trained"
    shutil.copytree(one_run, trained)
    config = load_config(
        trained / "study.yaml", ["train.defense=gaussian", "train.defense.sigma={ct: 0.1, photo: 0.3}"]
    )
    (trained / "study.yaml").write_text(dump_config(config))
    with pytest.raises(ConfigError, match=r"trained with --sigma ct=0.1 --sigma photo=0.3: give the same"):
        certified(trained, sigma={})


def test_studies_without_labels_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path, n=30)
    table = tmp_path / "study" / "studies.csv"
    write_table(table, [row | ({"grade": ""} if row["split"] == "test" else {}) for row in read_table(table)])
    with pytest.raises(DataError, match="no study of the split 'test' has a label"):
        certified(run, tasks=["grade"])
    assert not (run / "certificate.jsonl").exists()


def test_sigmas_as_a_user_gives_them() -> None:
    assert parse_sigma(["64/255", "a=b=0.1"]) == {None: 64 / 255, "a=b": 0.1}
    for wrong in (["much"], ["ct="], ["-0.1"], ["0.1", "0.2"], ["ct=0.1", "ct=0.1"]):
        with pytest.raises(ConfigError, match="--sigma"):
            parse_sigma(wrong)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, n=30)
    options = ["certify", str(run), "--sigma", "ct=0.2", "--draws", "20", "--cache", str(tmp_path / "cache")]
    for extra, words in (([], "radius in deviations"), (["--json"], '"promises_nothing_about"')):
        with pytest.raises(SystemExit) as ended:
            main([*options, *extra])
        out, err = capsys.readouterr()
        assert (ended.value.code or 0, words in out) == (0, True)
        assert extra or "Nothing is promised where photo, clinical changes" in err
        assert extra or f"Written: {run / 'certificate.json'}" in err
