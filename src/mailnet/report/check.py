"""What ``mailnet check`` found, as a page or as a section of a run's report; rows only, no name of a study."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mailnet.data.check import CheckReport, Finding
from mailnet.data.config import ImageConfig, StudyConfig, VolumeConfig
from mailnet.data.images import load_image
from mailnet.errors import MailnetError
from mailnet.files import write_text
from mailnet.report.examples import encode, shown

if TYPE_CHECKING:
    from markupsafe import Markup

SHOWN = 6
PAIRED = ("exact-duplicates", "near-duplicates", "turned-duplicates", "two-labels")

Picture = tuple[int, str, str]


def write_check_page(config: StudyConfig, report: CheckReport, out: Path) -> None:
    """Write what a check found as one HTML file that loads nothing from elsewhere, with pictures of suspicious pairs.

    Args:
        config: The study, whose images are read again.
        report: What ``check_study`` gave.
        out: The HTML file.

    Raises:
        RunError: The file cannot be written.
    """
    from markupsafe import Markup

    from mailnet import __version__

    check = report.as_dict(named=False)
    for found, finding in zip(check["leaks"] + check["cautions"], report.leaks + report.cautions, strict=True):
        found["pictures"] = _pictures(config, report, finding)
    page = template("check_page.html").render(
        config=config,
        check=check,
        findings=render_check(check),
        css=Markup((resources.files("mailnet.report") / "page.css").read_text(encoding="utf-8")),
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        version=__version__,
    )
    write_text(out, page)


def render_check(check: Mapping[str, Any]) -> Markup:
    """Return the findings as HTML, from ``CheckReport.as_dict(named=False)``, in memory or as check.json holds it."""
    from markupsafe import Markup

    findings = {
        kind: [{"pictures": [], "rows": [], **f} for f in check.get(kind, [])] for kind in ("leaks", "cautions")
    }
    view = {"status": 0} | dict(check) | findings | {"problems": _alike(check.get("problems", []))}
    pictured = any(f["pictures"] for several in findings.values() for f in several)
    return Markup(template("check.html").render(check=view, shown=SHOWN, pictured=pictured))


def template(name: str) -> Any:
    """Return a piece of the page that escapes what it is given."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string((resources.files("mailnet.report") / name).read_text(encoding="utf-8"))


def _alike(problems: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Return problems with equal place and remedy once, with their number."""
    counts: dict[tuple[str, str, str], int] = {}
    for problem in problems:
        key = (problem.get("modality", ""), problem.get("task", ""), problem.get("remedy", ""))
        counts[key] = counts.get(key, 0) + 1
    return [{"modality": m, "task": t, "remedy": remedy, "n": n} for (m, t, remedy), n in counts.items()]


def _pictures(config: StudyConfig, report: CheckReport, finding: Finding) -> list[list[Picture]]:
    """Return pairs from both ends of the list, which is in the order of likeness."""
    section = config.modalities.get(finding.modality or "")
    if finding.kind not in PAIRED or not isinstance(section, ImageConfig | VolumeConfig):
        return []
    n = len(finding.places)
    chosen = np.unique(np.r_[: min(SHOWN // 2, n), max(n - SHOWN // 2, 0) : n])
    pairs = []
    for place in finding.places[chosen]:
        try:
            pairs.append([_picture(report, finding, section, int(position)) for position in place])
        except MailnetError:
            continue
    return pairs


def _picture(report: CheckReport, finding: Finding, section: ImageConfig | VolumeConfig, position: int) -> Picture:
    row = report.rows.iloc[position]
    image = load_image(str(row[f"path:{finding.modality}"]), section)
    return int(row["row"]), str(row["split"]), encode(shown(image, section))
