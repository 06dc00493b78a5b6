"""The report as a file: it renders, stays to itself, and gives nothing away."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sample import FINDINGS, PATHOLOGY, SECRET, make_findings_run, make_run

from mailnet.errors import RunError
from mailnet.report import write_report

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "$\\frac{$ & {{ 7 * 7 }}",
    "tumour",
    "infarct",
)
VOID = {"meta", "img", "path", "br", "use"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def page(run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    cache = tmp_path_factory.mktemp("cache")
    written = write_report(run, cache=cache)
    assert written == run / "report.html"
    return written.read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Tags that were left open or closed twice, attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def without_data_uris(page: str) -> str:
    return re.sub(r"data:image/\w+;base64,[\w+/=]+", "", page)


def test_the_page_loads_nothing_from_elsewhere(page: str) -> None:
    bare = without_data_uris(page)
    for sign in ("http:", "https:", "//", "@import", "url(", "<link", "<script", "<iframe", "<object", "srcset"):
        assert sign not in bare, sign
    for tag, attributes in Outline(page).tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/jpeg;base64,")), (tag, attributes[name])


def test_the_page_is_sound_and_small(page: str) -> None:
    outline = Outline(page)
    assert outline.wrong == []
    assert outline.open == []
    assert all(attributes.get("alt") for tag, attributes in outline.tags if tag == "img")
    assert all(
        attributes.get("aria-label") or attributes.get("aria-hidden")
        for tag, attributes in outline.tags
        if tag == "svg"
    )
    targets = [attributes["id"] for _, attributes in outline.tags if "id" in attributes and attributes["id"][0] != "m"]
    assert len(set(targets)) == len(targets)
    assert {str(a["href"])[1:] for tag, a in outline.tags if tag == "a"} <= {*targets, "model"}
    assert len(page) < 3_000_000


def test_the_page_says_what_matters(page: str) -> None:
    text = " ".join(" ".join(Outline(page).text).split())
    for words in ("For research use; not a medical device.", "Balanced accuracy, 95% interval", "What fusion gives",
                  "mri alone", "without spect", "Confusion matrix", "Reliability", "pathology by scanner",
                  "few studies", "wrong, and sure of it", "were kept, the best by balanced accuracy, mean",
                  "Studies of each class of grade", "81.00 million a study", "Resolved configuration",
                  "Before you believe these numbers"):  # fmt: skip
        assert words in text, words
    assert page.count("data:image/jpeg") == 2 * 2 * 6 * 3


def test_no_identifier_is_in_the_page(run: Path, page: str) -> None:
    for name in ("predictions.parquet", "report.html"):
        assert (SECRET.encode() in (run / name).read_bytes()) == (name == "predictions.parquet")
    assert "P000" not in without_data_uris(page)


def test_names_are_text_never_markup(tmp_path: Path) -> None:
    run = make_run(tmp_path, n=200, classes=HOSTILE)
    page = write_report(run, tmp_path / "out.html", cache=tmp_path / "cache").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "{{ 7 * 7 }}" in page
    outline = Outline(page)
    assert (outline.wrong, outline.open) == ([], [])
    assert not [a for _, attributes in outline.tags for a in attributes if a.startswith("on")]


def test_images_that_are_gone_are_said_to_be(tmp_path: Path) -> None:
    run = make_run(tmp_path, n=120, images=False)
    page = write_report(run, cache=tmp_path / "cache").read_text(encoding="utf-8")
    assert "could not be read any more" in page
    assert "data:image" not in page
    assert "images of patients" not in page
    assert page.count('<div class="example ') == 2 * 2 * 6


def test_images_that_have_moved_are_found(tmp_path: Path) -> None:
    run = make_run(tmp_path, n=120)
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    page = write_report(run, data_root=tmp_path / "elsewhere", cache=tmp_path / "cache").read_text(encoding="utf-8")
    assert "data:image/jpeg" in page


def test_parts_that_a_run_lacks_are_said_to_be_missing(tmp_path: Path) -> None:
    run = make_run(tmp_path, n=120, images=False)
    for name in ("predictions.parquet", "metrics.jsonl", "data.json"):
        (run / name).unlink()
    page = write_report(run).read_text(encoding="utf-8")
    for words in ("no predictions.parquet", "no record of its training", "no curves can be drawn"):
        assert words in page
    assert Outline(page).wrong == []


def test_multilabel_ordinal_and_tabular_are_shown_as_such(tmp_path: Path) -> None:
    page = write_report(make_findings_run(tmp_path)).read_text(encoding="utf-8")
    text = " ".join(" ".join(Outline(page).text).split())
    for words in ("Macro AUROC, 95% interval", "Drawn are the 8 classes with the most studies, of 12",
                  "Quadratic kappa", "This study is unpaired", FINDINGS[3]):  # fmt: skip
        assert words in text, words
    assert "fusion gives nothing" not in text
    # A multilabel task has no confusion matrix: answers do not exclude each other.
    assert page.count('<table class="confusion">') == 1


def test_a_folder_that_is_no_evaluated_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
        write_report(tmp_path)
    run = make_run(tmp_path / "one", n=120, images=False)
    (run / "evaluation.json").unlink()
    with pytest.raises(RunError, match="has not been evaluated"):
        write_report(run)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    for name in ("metrics.jsonl", "predictions.parquet", "evaluation.json"):
        run = make_run(tmp_path / name, n=120, images=False)
        (run / name).write_text("{")
        with pytest.raises(RunError, match=name):
            write_report(run)


def test_results_of_a_newer_mailnet_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", n=120, images=False)
    values = json.loads((run / "evaluation.json").read_text())
    (run / "evaluation.json").write_text(json.dumps(values | {"format": 99, "mailnet": "9.0"}))
    with pytest.raises(RunError, match=r"newer mailnet, 9\.0.*Update mailnet"):
        write_report(run)


def test_sample_classes_are_those_of_the_phantom() -> None:
    assert len(PATHOLOGY) == len(HOSTILE)
