"""Natural damage and certificates as the report shows them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mailnet.errors import RunError
from mailnet.report.certificate import render_certificate
from mailnet.report.damage import render_damage
from mailnet.report.panels import Axis, Line, panel, share_axis

HOSTILE = "<b>ct</b>"


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def damage() -> dict[str, Any]:
    def kind(loss: float) -> dict[str, Any]:
        at = {str(s): {"balanced_accuracy": estimate(0.8 - loss * s), "loss": estimate(loss * s)} for s in (1, 5)}
        return {"error": estimate(0.3), "severities": at}

    task = {
        "n": 1234,
        "clean": {"balanced_accuracy": estimate(0.8), "error": estimate(0.2)},
        "kinds": {"blur": kind(0.01), "jpeg": kind(0.1)},
        "mean_corruption_error": estimate(0.35),
    }
    missing = {"n": 90, "clean": {"balanced_accuracy": estimate(0.8)}, "missing": {"balanced_accuracy": None}}
    swapped = {"swapped": {"balanced_accuracy": estimate(0.5)}, "confidence_clean": 0.9, "confidence_swapped": 0.77,
               "same_answer": 0.61}  # fmt: skip
    return {
        "format": 1,
        "split": "test",
        "settings": {"severities": [1, 5], "kinds": {"blur": [1, 5], "jpeg": [25, 7]}},
        "modalities": {HOSTILE: {"finding": task}},
        "missing": {HOSTILE: {"finding": missing}},
        "swapped": {HOSTILE: {"finding": swapped}},
        "reference": None,
        "pictures": {"severity": 3, "kinds": ["blur", "jpeg"], "modalities": [HOSTILE]},
    }


def certificate(sigma: dict[str, float]) -> dict[str, Any]:
    curve = [
        {"radius": r, "l2": {name: r * s for name, s in sigma.items()}, **estimate(0.8 - r / 4), "balanced": 0.41}
        for r in (0.0, 1.0, 2.0)
    ]
    task = {"plain_accuracy": estimate(0.8), "smoothed_accuracy": estimate(0.7), "abstained": estimate(0.1),
            "curve": curve}  # fmt: skip
    return {
        "format": 1,
        "n": 40,
        "of": 50,
        "left_out": 3,
        "promises_nothing_about": [HOSTILE],
        "settings": {"sigma": sigma, "draws": 1000, "level": 0.001, "split": "test"},
        "tasks": {"finding": task},
    }


def test_damage_with_the_worst_kind_first(tmp_path: Path) -> None:
    assert render_damage(tmp_path) is None
    (tmp_path / "corruptions.json").write_text(json.dumps(damage()))
    page = str(render_damage(tmp_path))
    assert re.findall(r"<strong>(.*?)</strong>, mean loss (.*?) points", page) == [("JPEG", "30.0"), ("blur", "3.0")]
    assert "35.0% (25.0 to 45.0%)" in page
    assert ">20%</text>" in page  # the axis holds the intervals, of which the lowest begins at 0.2
    assert "1,234 studies" in page
    for words in ("77.0%", "61.0%", "&lt;b&gt;ct&lt;/b&gt;"):
        assert words in page
    assert "<b>" not in page
    assert "<img" not in page
    grey = np.zeros((3, 20, 30), np.uint8)
    with (tmp_path / "corruptions.npz").open("wb") as file:
        np.savez_compressed(file, images_0=grey)
    page = str(render_damage(tmp_path))
    assert page.count('<img src="data:image/jpeg') == 3
    assert "images of patients" in page


def test_certificates_by_length_or_by_deviation(tmp_path: Path) -> None:
    assert render_certificate(tmp_path) is None
    (tmp_path / "certificate.json").write_text(json.dumps(certificate({"a": 0.25, "b": 0.25})))
    page = str(render_certificate(tmp_path))
    assert "l2 radius, images in [0, 1]" in page
    for words in ("Nothing is promised where &lt;b&gt;ct&lt;/b&gt; changes", "41.0%", "40 of 50", "3 studies", "0.500"):
        assert words in page
    (tmp_path / "certificate.json").write_text(json.dumps(certificate({"a": 0.25, "b": 0.1})))
    assert "radius in deviations of the noise" in str(render_certificate(tmp_path))


@pytest.mark.parametrize(("file", "render"), [("corruptions", render_damage), ("certificate", render_certificate)])
def test_files_of_a_newer_mailnet_and_damaged_ones_are_refused(file: str, render: Any, tmp_path: Path) -> None:
    (tmp_path / f"{file}.json").write_text('{"format": 99, "mailnet": "9.9"}')
    with pytest.raises(RunError, match="newer mailnet"):
        render(tmp_path)
    (tmp_path / f"{file}.json").write_text("{")
    with pytest.raises(RunError, match="not valid JSON"):
        render(tmp_path)
    if file == "corruptions":
        (tmp_path / "corruptions.json").write_text(json.dumps(damage()))
        (tmp_path / "corruptions.npz").write_bytes(b"PK\x03\x04")
        with pytest.raises(RunError, match="is damaged"):
            render(tmp_path)


def test_a_panel_puts_values_where_they_belong() -> None:
    line = Line([(0, 0.5, 0.4, 0.6), (1, 1.0, 0.9, 1.0)], 1, 0.75)
    chart = panel([line], Axis(0, 1, [(0, "a<b")]), share_axis([0.5]), width=142, height=126, alt='"x"')
    # The plot is 100 x 100 pixels from (34, 8); 50% is its lower edge.
    assert "M34.0,108.0L134.0,8.0" in chart
    assert "M34.0,58.0L134.0,58.0" in chart
    assert "a&lt;b" in chart
    assert 'aria-label="&#34;x&#34;"' in chart
    assert "var(--c2)" in chart
