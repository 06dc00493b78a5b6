"""Pictures of explained studies, looked at pixel by pixel."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mailnet.errors import RunError
from mailnet.explain import Explanation
from mailnet.explain.margins import heat_on_margins
from mailnet.explain.overlay import draw_explanation, write_picture
from mailnet.explain.overlay.bars import find_bars
from mailnet.explain.overlay.colours import colour_map, scale_top
from mailnet.explain.overlay.planes import best_planes, montage, shown
from mailnet.nn.batch import Batch
from mailnet.specs import ModalitySpec, TaskSpec

SPECS = {
    "ct": ModalitySpec("ct", size=(20, 20)),
    "photo": ModalitySpec("photo", channels=3, size=(12, 30)),
    "volume": ModalitySpec("volume", "volume", size=(6, 10, 8)),
    "clinical": ModalitySpec("clinical", "tabular", channels=14),
}
TASK = TaskSpec("grade", ("low", "mid", "$high$"), "ordinal")


def study(absent: tuple[str, ...] = ()) -> tuple[Batch, Explanation]:
    generator = torch.Generator().manual_seed(0)
    inputs = {
        "ct": torch.rand(2, 1, 20, 20, generator=generator),
        "photo": torch.rand(2, 3, 12, 30, generator=generator),
        "volume": torch.rand(2, 1, 6, 10, 8, generator=generator),
        "clinical": torch.randn(2, 14, generator=generator),
    }
    present = {name: torch.tensor([True, name not in absent]) for name in inputs}
    maps = {name: torch.rand(2, *x.shape[2:], generator=generator) for name, x in inputs.items() if name != "clinical"}
    columns = {"clinical": torch.randn(2, 14, generator=generator)}
    return Batch(inputs, present), Explanation("grade", torch.tensor([0, 2]), "grad_cam", maps, columns, signed=True)


def draw(batch: Batch, explanation: Explanation, row: int = 1, *names: str, **options: Any) -> np.ndarray:
    specs = {name: spec for name, spec in SPECS.items() if name in names or not names}
    picture = draw_explanation(batch, explanation, row, modalities=specs, task=TASK, **options)
    assert picture.startswith(b"\x89PNG")
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))


def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect every text that is drawn."""
    from matplotlib.text import Text

    found: list[str] = []
    drawn = Text.draw

    def noted(self: Text, *args: Any, **kwargs: Any) -> None:
        found.append(self.get_text())
        drawn(self, *args, **kwargs)

    monkeypatch.setattr(Text, "draw", noted)
    return found


def test_a_picture_says_what_was_said_and_nothing_of_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, explanation = study(absent=("photo",))
    batch.ids = ["patient-a", "patient-b"]
    written = texts(monkeypatch)
    draw(
        batch,
        explanation,
        probabilities=torch.tensor([0.2, 0.3, 0.5]),
        truth="mid",
        columns={"clinical": [f"c{k}" for k in range(14)]},
        shares={"ct": 0.5, "clinical": -0.1},
    )
    words = "\n".join(written)
    assert "grade: at least $high$ (probability 0.50), truth: mid, by grad cam" in words
    assert "absent" in written
    assert {"ct", "photo", "volume", "clinical", "modalities", "3 others", "worth, log-odds of the class"} <= set(
        written
    )
    assert {"heat: no unit, one scale for all images", "against", "for"} <= set(written), "a CAM has no unit"
    assert "axial" in words
    assert "patient" not in words


def test_heat_with_a_unit_has_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    written = texts(monkeypatch)
    batch, explanation = study()
    draw(batch, replace(explanation, method="integrated_gradients"), 0, "ct")
    assert "heat: log-odds, were the whole image so" in written
    assert not {"none", "most", "against", "for"} & set(written)


def test_the_lowest_grade_is_at_most_and_a_title_stands_above(monkeypatch: pytest.MonkeyPatch) -> None:
    written = texts(monkeypatch)
    batch, explanation = study()
    draw(batch, explanation, 0, "clinical", title="Study 7")
    assert "Study 7\ngrade: at most low, by grad cam" in written


def test_pictures_repeat() -> None:
    batch, explanation = study()
    first, second = (draw(batch, explanation, 0, "ct") for _ in range(2))
    assert np.array_equal(first, second)


def test_no_heat_leaves_the_image_as_it_is_and_heat_does_not() -> None:
    image = torch.full((1, 1, 16, 16), 0.5)
    batch = Batch({"ct": image}, {"ct": torch.ones(1, dtype=torch.bool)})

    def colourful(heat: torch.Tensor) -> int:
        explanation = Explanation("grade", torch.tensor([1]), "grad_cam", {"ct": heat[None]})
        picture = draw_explanation(batch, explanation, 0, modalities={"ct": SPECS["ct"]}, task=TASK)
        pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)
        assert (pixels == 128).all(2).sum() > 10_000
        return int((np.ptp(pixels, axis=2) > 40).sum())

    spot = torch.zeros(16, 16)
    spot[4:8, 4:8] = 1
    assert colourful(torch.zeros(16, 16)) == 0
    assert colourful(spot) > 1000


def test_heat_on_black_margins_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, found = study(absent=("photo",))
    batch.inputs["ct"][1, :, :, :5] = 0  # a quarter
    batch.inputs["photo"][1, :, :, :5] = 0
    found.maps["ct"][1] = -1.0
    found.maps["ct"][1, :, 5:] = 3.0
    assert heat_on_margins(batch, found, 1) == {"ct": pytest.approx(0.1)}
    assert heat_on_margins(batch, found, 0) == {}
    said = texts(monkeypatch)
    draw(batch, found, 1, "ct")
    assert "10% of the heat on the black margin" in said
    found.maps["ct"][1, :, :5] = 0.1
    said.clear()
    draw(batch, found, 1, "ct")
    assert not any("black margin" in text for text in said)


def test_a_mask_is_drawn_around() -> None:
    batch, explanation = study()
    volume = np.zeros((6, 10, 8), dtype=bool)
    volume[2:4, 3:6, 3:6] = True
    lesion = np.zeros((20, 20), dtype=bool)
    lesion[5:10, 5:10] = True
    plain = draw(batch, explanation, 1, "ct", "volume")
    masked = draw(batch, explanation, 1, "ct", "volume", masks={"ct": lesion, "volume": volume})
    changed = (plain != masked).any(2)
    half = changed.shape[1] // 2
    assert changed[:, :half].sum() > 300
    assert changed[:, half:].sum() > 100
    assert changed.mean() < 0.1


def test_one_scale_holds_for_all_modalities_and_single_pixels_do_not_make_it() -> None:
    even = np.full((20, 20), 2.0)
    spiked = np.ones((100, 100))
    spiked[0, 0] = 1000
    assert scale_top({"a": even, "b": spiked}) == 2
    assert scale_top({"a": -even}) == 2
    point = np.zeros((100, 100))
    point[3, 3] = 7
    assert scale_top({"a": point}) == 7
    assert scale_top({}) == 0


def test_colours_are_see_through_at_zero_and_opaque_at_the_ends() -> None:
    sequential, diverging = colour_map(False, 0.8), colour_map(True, 0.8)
    assert sequential(0.0)[3] == 0
    assert sequential(1.0)[3] == pytest.approx(0.8)
    assert diverging(0.5)[3] == pytest.approx(0, abs=0.01)
    assert diverging(0.0)[3] == diverging(1.0)[3] == pytest.approx(0.8)
    assert diverging(0.0)[2] > diverging(0.0)[0]  # against is blue
    assert diverging(1.0)[0] > diverging(1.0)[2]


def test_the_planes_with_most_energy_are_shown() -> None:
    heat = np.zeros((6, 10, 8))
    heat[1, 7, 2] = -3
    assert best_planes(heat) == (1, 7, 2)
    whole = montage(heat, (1, 7, 2), np.nan)
    assert (whole == -3).sum() == 3
    assert np.isnan(whole[:, 8]).all()  # between the planes
    # The head is above: plane 1 of 6 from below is row 4 of the coronal plane.
    assert whole[4, 8 + 1 + 2] == -3


def test_neighbouring_planes_show_the_middle_one_and_colours_stay_colours() -> None:
    planes = np.stack([np.full((4, 4), v) for v in (0.1, 0.9, 0.2)])
    assert shown(planes, 3) == pytest.approx(np.full((4, 4), 0.9))
    assert shown(planes).shape == (4, 4, 3)
    dark = np.full((1, 4, 4), 0.1)
    assert shown(dark) == pytest.approx(np.ones((4, 4)))
    assert not shown(np.zeros((1, 4, 4))).any()


def test_the_longest_bars_come_first_and_the_others_are_summed() -> None:
    batch, explanation = study()
    ((name, bars),) = find_bars(batch, explanation, 1, SPECS, {}, None)
    values = explanation.columns["clinical"][1]
    assert name == "clinical"
    assert len(bars) == 12
    assert sum(bars.values()) == pytest.approx(float(values.sum()), abs=1e-5)
    assert next(iter(bars.values())) == pytest.approx(float(values[values.abs().argmax()]))
    gone = find_bars(*study(absent=("clinical",)), 1, SPECS, {}, None)
    assert gone == [("clinical: absent", {})]


def test_a_study_of_tables_alone_is_a_picture_too() -> None:
    batch, explanation = study()
    assert draw(batch, explanation, 0, "clinical").shape[1] > 300


def test_pictures_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_picture(tmp_path / "deep" / "a.png", b"abc")
    assert (tmp_path / "deep" / "a.png").read_bytes() == b"abc"
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunError):
        write_picture(tmp_path / "file" / "a.png", b"abc")


def test_wrong_arguments_are_refused() -> None:
    batch, explanation = study()
    with pytest.raises(ValueError, match="opacity"):
        draw(batch, explanation, opacity=1.5)
    with pytest.raises(ValueError, match="row 2"):
        draw(batch, explanation, 2)
