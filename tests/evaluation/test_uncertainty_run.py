"""Several answers to a study, and what their spread says: drawn from a run, measured by evaluate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from factory import Command
from mailnet.bundle import Predictor, Reliability, load
from mailnet.bundle.doubt import PARTS, parts_as_json
from mailnet.data.config import EvaluationConfig, load_config
from mailnet.data.study import StudyData, load_study
from mailnet.errors import ConfigError
from mailnet.evaluation import evaluate
from mailnet.evaluation.uncertainty import Drawn, uncertainty_columns, uncertainty_tables
from mailnet.specs import TaskSpec
from mailnet.trust.calibration import Calibrator
from mailnet.trust.selective import risk_coverage
from mailnet.trust.uncertainty import measure_uncertainty

MakeRun = Callable[..., Path]
DROPOUT = {"dropout": 0.4}


def opened(run: Path, cache: Path) -> tuple[Predictor, StudyData]:
    """Return a run's predictor and its test studies, some of which lack the image 'photo'."""
    predictor = load(run, "cpu")
    data = load_study(load_config(run / "study.yaml"), cache=cache, tables=predictor.tables, splits=["test"])
    data.present["photo"][::3] = False
    return predictor, data


@pytest.mark.parametrize(
    ("model", "options", "source"),
    [("robust_mail", {}, "noise"), ("pni_mail", {}, "noise"), ("mail", DROPOUT, "dropout")],
)
def test_a_draw_is_one_network_whatever_is_asked_together(
    make_run: MakeRun, cache: Path, model: str, options: dict[str, object], source: str
) -> None:
    predictor, data = opened(make_run(model=model, options=options, size=16), cache)
    rows = np.arange(len(data))
    before = predictor.predict_data(data, rows)
    drawn = predictor.draw(data, rows, draws=4, seed=1)
    alone = predictor.draw(data, rows[5:6], draws=3, seed=1)
    turned = predictor.draw(data, rows[::-1], draws=4, seed=1, batch_size=5)
    other = predictor.draw(data, rows, draws=4, seed=2)
    assert predictor.draw_source == source
    for task, spec in data.tasks.items():
        assert drawn[task].shape == (4, len(data), len(spec.classes))
        np.testing.assert_allclose(drawn[task].sum(2), 1, rtol=0, atol=1e-5)
        np.testing.assert_allclose(alone[task][:, 0], drawn[task][:3, 5], rtol=0, atol=1e-5)
        np.testing.assert_allclose(turned[task][:, ::-1], drawn[task], rtol=0, atol=1e-5)
        assert (np.abs(drawn[task] - drawn[task][:1])[1:].max((1, 2)) > 1e-4).all()
        assert np.abs(other[task] - drawn[task]).max() > 1e-4
        # nothing stays behind: the next prediction is as the last
        np.testing.assert_array_equal(predictor.predict_data(data, rows)[task], before[task])


def test_dropped_features_are_the_share_asked_for_and_batch_norm_stays(make_run: MakeRun, cache: Path) -> None:
    predictor, data = opened(make_run(options=DROPOUT, size=16), cache)
    modes, seen = [], []
    heads = predictor.model.heads
    for weights in heads.weights["finding_"].values():
        weights.register_forward_pre_hook(lambda _, given: seen.append(given[0].numpy()))
    predictor.model.register_forward_pre_hook(lambda model, _: modes.append([m.training for m in model.modules()]))
    predictor.draw(data, np.arange(6, 12), draws=30)
    assert not np.any([any(mode) for mode in modes])
    dropped = np.stack([(given == 0).all(0) for given in seen]).reshape(2, 30, 3, -1)  # kinds, draws, modalities
    alive = ~dropped.all(1)  # the others are zero without dropout
    assert dropped.transpose(0, 2, 3, 1)[alive].mean() == pytest.approx(0.4, abs=0.03)
    assert dropped.any(1)[alive].all()
    for layer in predictor.model.modules():
        assert not layer._forward_hooks


def test_draws_average_to_the_prediction_of_a_random_network(make_run: MakeRun, cache: Path) -> None:
    predictor, data = opened(make_run(model="robust_mail", size=16), cache)
    rows = np.arange(len(data))
    drawn = predictor.draw(data, rows, draws=10, seed=0)
    np.testing.assert_allclose(drawn["finding"].mean(0), predictor.predict_data(data, rows)["finding"], atol=1e-5)


def test_draws_are_calibrated_as_predictions_are(make_run: MakeRun, cache: Path) -> None:
    predictor, data = opened(make_run(options=DROPOUT, size=16), cache)
    rows = np.arange(len(data))
    plain = predictor.draw(data, rows, draws=3)["grade"]
    fitted = Reliability({"grade": Calibrator("binary", 2, "temperature", (0.5,))})
    predictor.reliability = fitted
    drawn = predictor.draw(data, rows, draws=3)["grade"]
    for one, own in zip(drawn, plain, strict=True):
        np.testing.assert_allclose(one, fitted.calibrate({"grade": own})["grade"], atol=1e-6)
    assert np.abs(drawn - plain).max() > 1e-3


def test_evaluate_measures_and_keeps_it(make_run: MakeRun, cache: Path) -> None:
    run = make_run(options=DROPOUT, size=16, n=90)
    result = evaluate(run, cache=cache, device="cpu", bootstrap=30, uncertainty=5)
    assert json.loads((run / "evaluation.json").read_text()) == result
    found = result["uncertainty"]
    assert (found["source"], found["draws"], set(found["tasks"])) == ("dropout", 5, {"finding", "grade"})
    predictor = load(run, "cpu")
    data = load_study(load_config(run / "study.yaml"), cache=cache, tables=predictor.tables, splits=["test"])
    rows = np.arange(len(data))
    drawn, said = predictor.draw(data, rows, draws=5), predictor.predict_data(data, rows)
    table = pd.read_parquet(run / "predictions.parquet")
    for task, spec in data.tasks.items():
        own, one = measure_uncertainty(drawn[task], spec), found["tasks"][task]
        wrong = said[task].argmax(1) != data.labels[task]
        assert (one["studies"], one["wrong"]) == (len(rows), wrong.sum())
        orders = {"confidence": 1 - said[task].max(1)}
        for part in PARTS:
            orders[part] = getattr(own, part)
            np.testing.assert_allclose(table[f"{part}:{task}"], orders[part], atol=1e-6)
            assert one["parts"][part]["value"] == pytest.approx(orders[part].mean(), abs=1e-6)
            assert one["parts"][part]["low"] <= one["parts"][part]["value"] <= one["parts"][part]["high"]
        for name, values in orders.items():
            assert one["auroc"][name]["value"] == pytest.approx(roc_auc_score(wrong, values), abs=1e-6)
            assert one["auroc"][name]["low"] <= one["auroc"][name]["value"] <= one["auroc"][name]["high"]
            curve = risk_coverage(-values, wrong)
            assert curve is not None
            assert one["aurc"][name] == pytest.approx(curve.aurc)


def test_of_labels_the_mean_and_of_no_mistakes_nothing() -> None:
    spec = TaskSpec("signs", ("a", "b"), "multilabel")
    data = MagicMock(spec=StudyData, tasks={"signs": spec}, frame=pd.DataFrame({"group": ["p", "q", "r"]}))
    data.labels = {"signs": np.array([[1.0, 0.0], [0.0, np.nan], [np.nan, np.nan]])}
    data.__len__.return_value = 3
    said = np.array([[0.9, 0.2], [0.4, 0.3], [0.5, 0.5]])
    drawn = Drawn("members", 2, {"signs": measure_uncertainty(np.stack([said, said[::-1]]), spec)})
    columns = uncertainty_columns(data, drawn)
    settings = EvaluationConfig(bootstrap=0)
    one = uncertainty_tables(data, {"signs": said}, drawn, settings)["tasks"]["signs"]
    assert (one["studies"], one["wrong"]) == (1, 0)
    assert set(one["auroc"].values()) == {None}
    for part in PARTS:
        both = np.stack([columns[f"{part}:signs:a"], columns[f"{part}:signs:b"]])
        assert one["parts"][part] == {"value": pytest.approx(both.mean())}
    assert one["parts"]["total"]["value"] == pytest.approx(
        one["parts"]["aleatoric"]["value"] + one["parts"]["epistemic"]["value"]
    )
    assert set(one["aurc"].values()) == {0.0}


def test_from_the_command_line(make_run: MakeRun, cache: Path, mailnet: Command) -> None:
    plain, random = make_run("plain", size=16), make_run("random", options=DROPOUT, size=16)
    status, _, err = mailnet("evaluate", plain, "--uncertainty", "--cache", cache)
    assert status == 2
    assert "nothing to draw from" in err
    assert not (plain / "evaluation.json").exists()
    status, out, err = mailnet("evaluate", random, "--uncertainty", "--draws", 3, "--cache", cache)
    assert status == 0, err
    assert "uncertainty by 3 draws" in out
    assert "epistemic" in out
    status, out, err = mailnet("report", random)
    assert status == 0, err
    page = (random / "report.html").read_text()
    assert "How unsure it is" in page
    assert "3 passes with dropout" in page


def test_predictions_of_files_have_it_too(make_run: MakeRun, cache: Path, mailnet: Command) -> None:
    run = make_run(options=DROPOUT, size=16)
    predictor, data = opened(run, cache)
    data.present["photo"][:] = True
    predictor.reliability = Reliability({"grade": Calibrator("binary", 2, "temperature", (0.5,))})
    table = run.parent / "study of run" / "studies.csv"
    together, alone = (predictor.predict(table, draws=4, batch_size=size) for size in (64, 7))
    frame = together.to_frame().set_index("id").loc[data.frame["id"]]
    drawn = predictor.draw(data, np.arange(len(data)), draws=4)
    for task, spec in data.tasks.items():
        own = measure_uncertainty(drawn[task], spec)
        for part in PARTS:
            np.testing.assert_allclose(frame[f"{part}:{task}"], getattr(own, part), atol=1e-5)
        np.testing.assert_allclose(alone.uncertainty[task].total, together.uncertainty[task].total, atol=1e-5)
    said = together.as_dicts()[0]["tasks"]["grade"]["uncertainty"]
    assert said == {part: getattr(together.uncertainty["grade"], part)[0] for part in PARTS}
    assert predictor.predict(table).uncertainty == {}
    with pytest.raises(ValueError, match="at least 2"):
        predictor.predict(table, draws=1)
    status, out, err = mailnet("predict", run, table, "--uncertainty", "--draws", 3)
    assert status == 0, err
    assert "total:finding,aleatoric:finding,epistemic:finding,variation:finding,total:grade" in out.splitlines()[0]
    status, _, err = mailnet("predict", make_run("plain", size=16), table, "--uncertainty")
    assert status == 2
    assert "nothing to draw from" in err


def test_labels_have_parts_of_their_own() -> None:
    spec = TaskSpec("signs", ("a", "b"), "multilabel")
    found = measure_uncertainty(np.array([[[0.9, 0.2]], [[0.4, 0.3]]]), spec)
    said = parts_as_json(spec, found, 0)
    assert set(said) == set(PARTS)
    assert said["total"] == {"a": found.total[0, 0], "b": found.total[0, 1]}


def test_a_network_without_anything_to_draw_says_what_to_do(make_run: MakeRun, cache: Path) -> None:
    predictor, data = opened(make_run(size=16), cache)
    with pytest.raises(ConfigError, match="nothing to draw from") as caught:
        predictor.draw(data, np.arange(2))
    assert "model.options.dropout=0.2" in str(caught.value)
    assert "mailnet ensemble" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        opened(make_run("other", model="mmtm", size=16), cache)[0].draw(data, np.arange(2))
    assert "dropout=" not in str(caught.value)
    with pytest.raises(ValueError, match="at least 1"):
        predictor.draw(data, np.arange(2), draws=0)
