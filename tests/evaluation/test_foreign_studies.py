"""Foreign studies: fitted by evaluate on training and validation studies, kept in the bundle, told by predictions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from factory import Command
from mailnet.bundle import Predictor, load
from mailnet.data.config import load_config
from mailnet.data.study import StudyData, load_study
from mailnet.errors import ConfigError
from mailnet.evaluation import evaluate
from mailnet.evaluation.foreign import examine, fit_foreign
from mailnet.evaluation.looking import draw, find_layers, look

MakeRun = Callable[..., Path]


@pytest.fixture
def run(make_run: MakeRun) -> Path:
    """A run with 90 training, 30 validation and 30 test studies, each of a patient of its own."""
    return make_run(n=150, group=None)


def loaded(run: Path, cache: Path, split: str) -> tuple[Predictor, StudyData]:
    raw = load(run, "cpu", raw=True)
    return raw, load_study(load_config(run / "study.yaml"), cache=cache, tables=raw.tables, splits=[split])


def strange(run: Path, folder: Path) -> list[dict[str, object]]:
    """Return a usual study, one with a blank image, one with photo and CT alike, and one of an old patient."""
    rows = pd.read_csv(run.parent / "study of run" / "studies.csv")
    rows = rows[rows["split"] == "test"].head(4).to_dict("records")
    study = run.parent / "study of run"
    for row in rows:
        row |= {"ct": str(study / str(row["ct"])), "photo": str(study / str(row["photo"]))}
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(folder / "blank.png")
    Image.open(str(rows[2]["ct"])).convert("RGB").save(folder / "grey.png")
    rows[1]["ct"], rows[2]["photo"], rows[3]["age"] = str(folder / "blank.png"), str(folder / "grey.png"), 400
    return [{str(key): value for key, value in row.items()} for row in rows]


def test_predictions_tell_foreign_studies_and_say_what_is_odd(run: Path, cache: Path, tmp_path: Path) -> None:
    result = evaluate(run, cache=cache, device="cpu", bootstrap=0, foreign=0.15)
    assert json.loads((run / "evaluation.json").read_text()) == result
    assert (result["foreign"]["rate"], result["foreign"]["study"]["studies"]) == (0.15, 30)
    assert result["foreign"]["study"]["share"] <= 0.3
    assert result["foreign"]["modalities"]["ct"]["kinds"] == ["picture", "features"]
    assert result["foreign"]["modalities"]["ct"]["patients"] == 30
    predictions = load(run, "cpu").predict(strange(run, tmp_path), batch_size=3)
    assert predictions.foreign_modalities()[1:] == [["ct"], ["photo"], ["clinical"]]
    assert predictions.to_frame()["foreign"].tolist()[1:] == ["ct", "photo", "clinical"]
    assert predictions.foreign["ct"].p[1] == pytest.approx(1 / 31)
    usual, blank, grey, old = (study["foreign"] for study in predictions.as_dicts())
    assert usual["clinical"] == {"p": 1.0, "alarm": False, "findings": []}
    assert "the image is blank" in blank["ct"]["findings"][0]
    assert "grey where colours are expected" in grey["photo"]["findings"][0]
    assert "age is 207 or more, in training studies about 20 to 88" in old["clinical"]["findings"][0]
    assert predictions.warnings()[3] == [f"clinical: {old['clinical']['findings'][0]}"]
    assert predictions.to_frame()["warnings"][1].startswith("ct: the image is blank")
    elsewhere, nowhere = strange(run, tmp_path)[:1] * 2
    unseen = load(run, "cpu").predict([elsewhere | {"site": "Atlantis"}, nowhere | {"site": ""}])
    assert unseen.warnings()[0] == ["clinical: site has a value that no training study had"]
    assert unseen.warnings()[1] == ["clinical: site has no value, which every training study had"]


def test_a_prediction_does_not_depend_on_what_else_is_predicted(run: Path, cache: Path) -> None:
    evaluate(run, cache=cache, device="cpu", bootstrap=0, foreign=0.15)
    predictor = load(run, "cpu")
    table = pd.read_csv(run.parent / "study of run" / "studies.csv").tail(6)
    folder = run.parent / "study of run"
    table.loc[table.index[:2], "photo"] = None
    together = predictor.predict(table, data_root=folder)
    alone = predictor.predict(table, data_root=folder, batch_size=1)
    for name, one in together.foreign.items():
        np.testing.assert_allclose(one.p, alone.foreign[name].p)
    assert np.isnan(together.foreign["photo"].p[:2]).all()
    assert not together.foreign["photo"].sounds[:2].any()
    assert set(together.as_dicts()[0]["foreign"]) == {"ct", "clinical"}
    without = predictor.predict(table, data_root=folder, without=["ct"])
    assert np.isnan(without.foreign["ct"].p).all()
    plain = load(run, "cpu", raw=True).predict(table, data_root=folder)
    assert plain.foreign == {}
    np.testing.assert_array_equal(together.probabilities["grade"], plain.probabilities["grade"])


def test_a_random_network_has_the_features_of_its_draws(
    make_run: MakeRun, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailnet.bundle.draws.AVERAGED", 2)
    predictor, data = loaded(make_run("noisy", model="robust_mail", n=30), cache, "train")
    data.present["photo"][:5] = False
    rows = draw(data, 0)
    layers = find_layers(predictor, data, rows)
    assert set(layers) == {"ct", "photo"}
    assert all(len(chosen) == 2 for chosen in layers.values())
    seen = look(predictor, data, rows, layers)
    again = look(predictor, data, {"ct": np.array([2, 13])}, layers)
    assert seen["photo"].features is not None
    assert len(seen["photo"].picture) == len(seen["photo"].features) == len(data) - 5
    assert np.isfinite(seen["photo"].features).all()
    assert seen["ct"].features is not None
    assert again["ct"].features is not None
    np.testing.assert_allclose(seen["ct"].features[[2, 13]], again["ct"].features, rtol=1e-4, atol=1e-5)


def test_alarms_sound_at_the_rate(run: Path, cache: Path) -> None:
    predictor, train = loaded(run, cache, "train")
    val, test = (loaded(run, cache, split)[1] for split in ("val", "test"))
    foreign = fit_foreign(predictor, train, val, rate=0.15)
    found = examine(predictor, foreign, test, np.arange(30))
    order = np.random.default_rng(0).permutation(30)
    shuffled = examine(predictor, foreign, test, order)
    for name, one in found.items():
        np.testing.assert_allclose(one.p[order], shuffled[name].p)
        assert [one.findings[row] for row in order] == shuffled[name].findings
    # Of the validation studies themselves just under the rate, by the way p-values are made.
    own = examine(predictor, foreign, val, np.arange(30))
    assert own["ct"].sounds.sum() <= 0.05 * 31
    assert 0 < np.mean(own["ct"].p <= 0.2) <= 0.2
    assert foreign.reason("ct") == ""
    assert "299 are needed" in fit_foreign(predictor, train, val, rate=0.01).reason("ct")
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit_foreign(predictor, train, val, rate=1.0)


def test_nothing_fitted_says_nothing(run: Path, cache: Path) -> None:
    assert evaluate(run, cache=cache, device="cpu", bootstrap=0)["foreign"] is None
    predictions = load(run, "cpu").predict(run / "study.yaml")
    assert predictions.foreign == {}
    assert predictions.foreign_modalities() == [[]] * 150
    assert "foreign" not in predictions.to_frame()
    assert "foreign" not in predictions.as_dicts()[0]
    with pytest.raises(ConfigError, match="between 0 and 1"):
        evaluate(run, cache=cache, device="cpu", bootstrap=0, foreign=0.0)


def test_from_the_command_line(run: Path, cache: Path, tmp_path: Path, mailnet: Command) -> None:
    status, out, err = mailnet("evaluate", run, "--cache", cache, "--device", "cpu", "--foreign")
    assert status == 0, err
    assert "Foreign studies (test studies)" in out
    assert "can hardly be called foreign: 30 validation patients have it, 59 are needed" in out
    status, out, err = mailnet("evaluate", run, "--cache", cache, "--device", "cpu", "--false-alarms", 0.15)
    assert status == 0, err
    assert "can hardly be called foreign" not in out
    status, _, err = mailnet("report", run, "--cache", cache)
    assert status == 0, err
    assert "Studies unlike those of training" in (run / "report.html").read_text()
    pd.DataFrame(strange(run, tmp_path)).to_csv(tmp_path / "odd.csv", index=False)
    status, out, err = mailnet("predict", run, tmp_path / "odd.csv", "--data-root", tmp_path)
    assert status == 0, err
    assert " of 4 studies look foreign" in err
