"""Explained studies as the report shows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sample import SECRET, make_run

from mailnet.errors import RunError
from mailnet.report import write_report
from mailnet.report.explanations import SHOWN, render_explanations

HOSTILE = '<b>"low"</b>'


def entry(row: int, picture: str, **changes: Any) -> dict[str, Any]:
    """One study explained."""
    worth = {"ct": 0.5 * row, "photo": -0.25}
    return {
        "row": row,
        "task": "grade",
        "kind": "binary",
        "target": HOSTILE,
        "probabilities": {HOSTILE: 0.712, "high": 0.288},
        "truth": "high",
        "modalities": worth,
        "columns": {"clinical": {f"column {k}": 0.1 * k for k in range(12)}},
        "absent": [],
        "picture": picture,
    } | changes


def write(run: Path, entries: list[dict[str, Any]], **changes: Any) -> Path:
    """Write explanations.json, and a picture for each entry that names a plain file."""
    folder = run / "explanations"
    folder.mkdir(parents=True, exist_ok=True)
    for one in entries:
        if one["picture"].endswith(".png"):
            Image.new("RGB", (950, 90), "navy").save(folder / one["picture"])
    values = {"format": 1, "method": "layer_cam", "split": "test", "entries": entries} | changes
    (folder / "explanations.json").write_text(json.dumps(values), encoding="utf-8")
    return run


def page(run: Path) -> str:
    """The section."""
    found = render_explanations(run)
    assert found is not None
    return str(found)


def test_what_was_explained(tmp_path: Path) -> None:
    entries = [entry(1, "row-1-grade.png"), entry(3, "row-3-grade.png", truth=HOSTILE, absent=["photo"])]
    entries[0]["margins"] = {"ct": 0.123, "photo": 0.001}
    text = page(write(tmp_path, entries))
    for words in (
        "2 studies of the split “test”, drawn at random, explained by layer cam",
        "A heat map shows what the network used, not what is true",
        "<td>+1.00</td>",  # mean of 0.5 and 1.5
        "<td>-0.25</td>",
        "Worth: ct +0.50, photo -0.25.",
        "probability 71.2%. True: high ✗.",
        "Absent: photo.",
        "Heat on the black margin: ct 12%.",
        "support no conclusion",
        "images of patients",
    ):
        assert words in text
    assert "✓" in text
    assert HOSTILE not in text
    assert "Predicted <strong>&lt;b&gt;&#34;low&#34;&lt;/b&gt;</strong>" in text
    assert text.count("data:image/jpeg;base64,") == 2
    assert 'alt="Images of row 1 and their heat maps for grade' in text
    assert "column 11" in text
    assert "column 2" not in text, "of many columns those that are worth most"
    # The bar of the lower mean is a quarter as long as that of the higher, and goes to the other side.
    assert "left:50%;width:50.0%" in text
    assert "left:37.5%;width:12.5%" in text


def test_the_page_stays_small(tmp_path: Path) -> None:
    entries = [entry(k, f"row-{k}-{task}.png", task=task) for task in ("grade", "stage") for k in range(1, 12)]
    text = page(write(tmp_path, entries))
    assert text.count("data:image/jpeg;base64,") == SHOWN
    assert text.count("<figure><img") == SHOWN
    assert "10 more pictures" in text
    assert "11 studies" in text
    assert len(text) < 400_000


@pytest.mark.parametrize("picture", ["gone", "../secret.png", "broken.jpg", ".."])
def test_a_picture_that_is_none_of_ours(tmp_path: Path, picture: str) -> None:
    run = write(tmp_path / "run", [entry(1, picture)])
    Image.new("RGB", (9, 9)).save(tmp_path / "run" / "secret.png")
    (run / "explanations" / "broken.jpg").write_bytes(b"no picture")
    text = page(run)
    assert "data:image" not in text
    assert "no picture" in text
    assert "Row 1." in text


def test_labels_grades_and_other_classes_are_not_said_to_be_predicted(tmp_path: Path) -> None:
    entries = [
        entry(1, "a.png", kind="multilabel", target="high", truth=None),
        entry(2, "b.png", target="high"),
    ]
    text = page(write(tmp_path, entries))
    assert text.count("Explained: <strong>high") == 2
    assert "Predicted" not in text
    assert "✗" not in text
    assert "True: not known" in text
    assert "ordered" not in text
    assert "classes are ordered" in page(write(tmp_path, [entry(1, "a.png", kind="ordinal")]))


def test_without_modalities_to_compare(tmp_path: Path) -> None:
    text = page(write(tmp_path, [entry(1, "a.png", modalities=None, columns={})]))
    assert "Worth" not in text
    assert "<table" not in text


def test_the_report_shows_them_and_writes_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for slow in ("task_figures", "read_history"):
        monkeypatch.setattr(f"mailnet.report.page.{slow}", lambda *_: None)
    run = write(make_run(tmp_path, n=120, images=False), [entry(1, "row-1-grade.png")])
    values = {"mailnet": "0.1.0", "study": "Heads", "regime": "paired", "model": {"name": "mail", "options": {}},
              "modalities": [{"name": "age", "kind": "tabular"}], "preprocessing": {"age": {"numeric": ["age"],
              "categorical": []}}, "tasks": [{"name": "grade", "kind": "binary", "classes": ["a", "b"]}]}  # fmt: skip
    (run / "bundle").mkdir()
    (run / "bundle" / "config.json").write_text(json.dumps(values), encoding="utf-8")
    card = run / "bundle" / "README.md"
    text = write_report(run, tmp_path / "elsewhere.html").read_text(encoding="utf-8")
    assert '<section id="explanations">' in text
    assert '<a href="#explanations">' in text
    assert not card.exists(), "a report elsewhere leaves the run as it is"
    write_report(run)
    found = card.read_text(encoding="utf-8")
    assert "Heat maps by layer cam" in found
    assert "Balanced accuracy" in found
    assert SECRET not in found
    assert str(tmp_path) not in found
    evaluation = json.loads((run / "evaluation.json").read_text())
    (run / "evaluation.json").write_text(json.dumps(evaluation | {"split": "val"}), encoding="utf-8")
    write_report(run)
    assert card.read_text(encoding="utf-8") == found, "results of another split never come into the card"


def test_where_there_is_nothing_or_something_newer(tmp_path: Path) -> None:
    assert render_explanations(tmp_path) is None
    assert render_explanations(write(tmp_path, [])) is None
    with pytest.raises(RunError, match="newer mailnet"):
        render_explanations(write(tmp_path, [entry(1, "a.png")], format=2))
