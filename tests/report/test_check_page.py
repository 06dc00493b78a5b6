"""What a check found as a page, and as a section of a run's report."""

from __future__ import annotations

import re
from pathlib import Path

from factory import read_table, write_study, write_table
from mailnet.data.check import check_study
from mailnet.data.config import load_config
from mailnet.report.check import render_check, write_check_page


def spoilt(folder: Path) -> Path:
    """A study with a copy on two sides, a column that tells the label, a patient's name in it, and a broken file."""
    study = write_study(folder, n=120, id="study", subgroups=["device"])
    rows = read_table(folder / "studies.csv")
    for k, row in enumerate(rows):
        row["study"] = f"Jane Roe {k}"
        row["patient"] = f"MRN-{int(row['patient'][1:])}"
        row["device"] = {"low": "<A>", "high": "B"}[row["grade"]]
    (folder / rows[18]["photo"]).write_bytes((folder / rows[0]["photo"]).read_bytes())
    (folder / rows[2]["ct"]).write_bytes(b"no picture")
    write_table(folder / "studies.csv", rows)
    return study


def test_a_page_shows_pairs_and_names_nobody(tmp_path: Path) -> None:
    config = load_config(spoilt(tmp_path / "study"))
    report = check_study(config)
    write_check_page(config, report, tmp_path / "check.html")
    page = (tmp_path / "check.html").read_text(encoding="utf-8")
    assert "the very same picture is in two splits" in page
    assert "Rows 1 and 19" in page
    assert page.count("data:image/jpeg") == 2
    assert "1 problem, to be mended so: Restore the file" in page
    assert "device" in page
    for private in ("Jane Roe", "MRN", str(tmp_path), "ct002", "<A>"):
        assert private not in page
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page)


def test_a_section_from_json_has_no_pictures(tmp_path: Path) -> None:
    report = check_study(load_config(spoilt(tmp_path / "study")))
    section = render_check(report.as_dict(named=False))
    assert "Rows 1 and 19" in section
    assert "<img" not in section
    # What an older or emptier file lacks is not shown.
    assert "No leak was found" in render_check({})
