"""How ``mailnet check`` prints what it found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mailnet.cli.output import print_table

if TYPE_CHECKING:
    from pathlib import Path

    from mailnet.data.check import CheckReport, Finding
    from mailnet.data.config import StudyConfig

SHOWN = 3


def print_check(report: CheckReport) -> None:
    """Print counts, then problems, leaks and cautions, each with its remedy and a few examples."""
    splits = list(report.splits)
    print(f"{report.studies} studies of {report.groups} patients or groups")
    if splits:
        print_table("Studies", ["", *splits], [["all", *(str(report.splits[split]) for split in splits)]])
        rows = [[name, *(str(counts[split]) for split in splits)] for name, counts in report.present.items()]
        print_table("Modalities", ["", *splits], rows)
    for task, classes in report.classes.items():
        rows = [[name, *(str(counts[split]) for split in splits)] for name, counts in classes.items()]
        print_table(f"Task {task}", ["", *splits], rows)
    for name, sizes in report.sizes.items():
        if not sizes:
            continue
        several = ", ".join(f"{size} ({count})" for size, count in list(sizes.items())[:5])
        print(f"{name}: files of {several}" + (f" and {len(sizes) - 5} other sizes" if len(sizes) > 5 else ""))
    if report.unjudged:
        print(f"Not tried against the labels, since nearly every text is its own: {', '.join(report.unjudged)}")
    _print_problems(report)
    for title, findings in (("Leak", report.leaks), ("Caution", report.cautions)):
        for finding in findings:
            print(f"{title}: {finding}")
            _print_examples(report, finding)
    counts = ((report.problems, "problem"), (report.leaks, "leak"), (report.cautions, "caution"))
    if any(things for things, _ in counts):
        print(", ".join(_count(things, noun) for things, noun in counts))
    else:
        print("Nothing wrong was found.")


def write_check(config: StudyConfig, report: CheckReport, out: Path) -> None:
    """Write a report without names of studies or files, as a page or as JSON by the suffix of ``out``."""
    if out.suffix == ".html":
        from mailnet.report.check import write_check_page

        write_check_page(config, report, out)
    else:
        from mailnet.files import write_json

        write_json(out, report.as_dict(named=False))


def _print_problems(report: CheckReport) -> None:
    """Print problems, those with one remedy together."""
    alike: dict[tuple[str | None, str | None, str | None], list[str]] = {}
    for problem in report.problems:
        alike.setdefault((problem.modality, problem.task, problem.remedy), []).append(str(problem))
    for several in alike.values():
        for text in several[:SHOWN]:
            print(f"Problem: {text}")
        if len(several) > SHOWN:
            print(f"  ... and {len(several) - SHOWN} more like it")


def _print_examples(report: CheckReport, finding: Finding) -> None:
    for place in finding.places[:SHOWN]:
        print(f"  {' and '.join(report.names(place))}")
    if len(finding.places) > SHOWN:
        print(f"  ... and {len(finding.places) - SHOWN} more; --json lists all")


def _count(things: Sequence[object], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
