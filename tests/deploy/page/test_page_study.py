"""A study on the page: files dropped, the answer shown, heat maps laid over it."""

from __future__ import annotations

import json
from pathlib import Path

from page_driver import Driver
from playwright.sync_api import expect

Files = dict[str, list[Path]]


def test_a_dropped_study_is_answered_with_bars_sets_and_warnings(opened: Driver, files: Files) -> None:
    opened.load("left", files["left"])
    opened.load("right", files["right"])
    opened.page.get_by_role("textbox", name="age").fill("51,5")
    opened.page.get_by_role("combobox", name="site").select_option("inner")
    opened.page.get_by_role("textbox", name="Study").fill("A-17")
    result = opened.predict()

    asked = opened.service.last("/v1/predict")
    assert asked.query == {"model": "breast", "without": "true"}
    assert asked.form["left"] == [files["left"][0].read_bytes()]
    assert json.loads(asked.form["table"][0]) == {"age": 51.5, "site": "inner"}
    assert asked.form["id"] == ["A-17"]
    pathology = result.get_by_role("article", name="pathology")
    expect(pathology.locator(".answer")).to_have_text("malignant86.3 %")
    expect(pathology).to_contain_text("Only malignant remains in the set.")
    expect(pathology.locator(".bars:not(.without) tr.held")).to_have_count(1)
    width = "(row, part) => row.querySelector(part).getBoundingClientRect().width"
    wide = f"rows => rows.map(row => ({width})(row, '.fill') / ({width})(row, '.bar'))"
    shares = pathology.locator(".bars:not(.without) tbody tr").evaluate_all(wide)
    assert [round(share, 1) for share in shares] == [0.1, 0.9]
    expect(result).not_to_contain_text("not calibrated")
    expect(pathology.locator(".without")).to_contain_text("\N{MINUS SIGN}44.8 points")
    expect(pathology.locator(".without tr", has_text="left")).to_contain_text("then benign")
    birads = result.get_by_role("article", name="birads")
    expect(birads).to_contain_text("abstains")
    expect(birads).to_contain_text("4 and 5 remain in the set")
    expect(result.locator(".warning")).to_contain_text("right is unlike what the model was trained on (p = 0.004)")
    expect(opened.page.get_by_role("status").first).to_contain_text("birads: the model abstains")


def test_a_heat_map_covers_the_image_as_far_as_its_slider_says(opened: Driver, files: Files) -> None:
    opened.load("left", files["left"])
    opened.load("right", files["right"])
    opened.predict()
    assert opened.pixels("left")[1] == 0
    opened.page.get_by_role("button", name="Show heat map").click()
    opened.page.locator(".legend").wait_for()
    colour = opened.pixels("left")[1]
    assert colour > 0
    assert opened.pixels("right")[1] > 0
    opened.slide("left", "Heat map", 10)
    assert 0 < opened.pixels("left")[1] < colour / 3
    opened.slide("left", "Heat map", 0)
    assert opened.pixels("left")[1] == 0
    assert opened.pixels("right")[1] > 0  # each has a slider of its own

    opened.slide("left", "Heat map", 100)
    rising = opened.pixels("left")[0]
    opened.page.get_by_role("combobox", name="Method").select_option("occlusion")
    expect(opened.page.locator(".legend")).to_contain_text("\N{MINUS SIGN}2.4 against")
    assert opened.pixels("left")[0] != rising
    opened.page.get_by_role("combobox", name="Speaks for").select_option("benign")
    expect(opened.page.locator(".legend")).to_contain_text("what speaks for benign")
    asked = opened.service.last("/v1/explain")
    expected = {"model": "breast", "task": "pathology", "method": "occlusion", "target": "benign"}
    assert asked.query == expected
    opened.page.get_by_role("button", name="Hide heat map").click()
    assert opened.pixels("left")[1] == opened.pixels("right")[1] == 0


def test_a_dicom_series_is_leafed_through(opened: Driver, files: Files) -> None:
    opened.page.get_by_role("combobox", name="Model").select_option("chest")
    opened.load("ct", files["series"])
    corner = opened.view("ct").locator(".corner.tr")
    expect(corner).to_have_text("slice 4 of 6")
    middle = opened.pixels("ct")[0]
    opened.canvas("ct").hover()
    expect(opened.view("ct").locator(".corner.br")).to_contain_text(": 52 HU")  # stored as 1076
    opened.page.mouse.wheel(0, 100)
    expect(corner).to_have_text("slice 5 of 6")
    assert opened.pixels("ct")[0] != middle
    opened.slide("ct", "Slice", 1)
    expect(corner).to_have_text("slice 1 of 6")
    result = opened.predict()
    assert "without" not in opened.service.last("/v1/predict").query  # there is but one modality
    assert len(opened.service.last("/v1/predict").form["ct"]) == 6
    expect(result).to_contain_text("Present: nodule. Undecided: effusion.")
    expect(result.locator("tr", has_text="fracture")).to_contain_text("< 0.1 %")
    opened.page.get_by_role("button", name="Show heat map").click()
    opened.page.locator(".legend").wait_for()
    expect(corner).to_have_text("slice 4 of 6")  # where the map is warmest
    assert opened.pixels("ct")[1] > 0


def test_what_changes_after_a_result_makes_it_old(opened: Driver, files: Files) -> None:
    opened.load("left", files["left"])
    result = opened.predict()
    expect(result.locator(".warning")).to_contain_text("right and clinical are absent")
    opened.page.get_by_role("button", name="Show heat map").click()
    opened.page.locator(".legend").wait_for()
    opened.load("left", files["colour"])
    expect(opened.page.locator("#result .stale")).to_be_visible()
    expect(opened.page.locator("#explain")).to_be_hidden()
    opened.view("left").get_by_role("button", name="Remove left").click()
    opened.page.get_by_role("textbox", name="age").fill("60")
    result = opened.predict()
    expect(result.locator(".stale")).to_be_hidden()
    expect(result.locator(".warning")).to_contain_text("left and right are absent")
    assert "left" not in opened.service.last("/v1/predict").form
    opened.page.get_by_role("button", name="New study").click()
    expect(opened.page.locator("#result")).to_be_hidden()
    assert opened.page.get_by_role("textbox", name="age").input_value() == ""


def test_files_dropped_beside_the_views_go_where_they_belong(opened: Driver, files: Files) -> None:
    head = opened.page.locator("#side")
    opened.drop([*files["right"], *files["left"]], head)  # their names say it
    opened.page.locator('.view.filled[data-modality="right"]').wait_for()
    opened.page.locator('.view.filled[data-modality="left"]').wait_for()
    assert opened.service.last("/v1/preview").form.keys() <= {"left", "right"}
    before = opened.pixels("right")[0]
    opened.drop(files["colour"], head)  # nothing says it
    dialog = opened.page.get_by_role("dialog", name="Where do these files belong?")
    expect(dialog).to_contain_text("colour.png")
    dialog.get_by_role("button", name="right").click()
    expect(opened.view("right").locator(".corner.tl")).to_have_text("64 \N{MULTIPLICATION SIGN} 64")
    assert opened.pixels("right")[0] != before


def test_a_dicom_study_is_answered_in_dicom(opened: Driver, files: Files) -> None:
    opened.page.get_by_role("combobox", name="Model").select_option("chest")
    opened.load("ct", files["series"])
    opened.page.get_by_role("textbox", name="Study").fill("A-17")
    opened.predict()
    with opened.page.expect_download() as download:
        opened.page.get_by_role("button", name="Save as DICOM").click()
    assert download.value.suggested_filename == "chest-result.zip"
    assert download.value.path().read_bytes() == b"a zip of ct, id"
    opened.page.get_by_role("combobox", name="Model").select_option("breast")
    opened.load("left", files["left"])
    opened.predict()
    expect(opened.page.get_by_role("button", name="Save as DICOM")).to_have_count(0)  # of pictures there is none


def test_a_table_of_many_columns_comes_from_a_file(opened: Driver, tmp_path: Path) -> None:
    opened.page.get_by_role("combobox", name="Model").select_option("omics")
    expect(opened.page.locator(".view")).to_have_count(0)
    path = tmp_path / "rna.csv"
    for text in (
        "patient,ENSG0,ENSG7,ENSG8\nA,1.5,-2,\n",
        '{"ENSG0": 1.5, "ENSG7": "-2", "other": 3}',
        "ENSG0\t1.5\nENSG7\t-2\n",
    ):
        path.write_text(text)
        opened.page.get_by_label("File with the values of rna").set_input_files(path)
        expect(opened.page.locator("#inputs [role=status]")).to_have_text("2 of 60 columns given")
        result = opened.predict()
        assert json.loads(opened.service.last("/v1/predict").form["table"][0]) == {"ENSG0": 1.5, "ENSG7": -2}
        opened.page.get_by_role("button", name="New study").click()
        expect(result).to_be_hidden()
    path.write_text("a,b,c\n1,2,3\n")
    opened.page.get_by_label("File with the values of rna").set_input_files(path)
    expect(opened.page.locator("#inputs .problem")).to_contain_text("none of the model's columns")
    path.write_text("ENSG1,ENSG2\n1,high\n")
    opened.page.get_by_label("File with the values of rna").set_input_files(path)
    expect(opened.page.locator("#inputs .problem")).to_contain_text("'high' is not a number")
    path.write_text("ENSG1,1\n")
    opened.page.get_by_label("File with the values of rna").set_input_files(path)
    result = opened.predict()
    expect(result.locator(".answer")).to_have_text("luminal> 99.9 %")
    expect(result).to_contain_text("This model has no prediction sets")
    expect(result.locator(".flag")).to_have_text("not calibrated")
    expect(result.locator(".warning")).to_contain_text("rna: ENSG1 is 20 standard deviations")
    expect(opened.page.locator("#explain")).to_contain_text("An exported model answers, and cannot say why.")
    expect(opened.page.get_by_role("button", name="Show heat map")).to_have_count(0)
