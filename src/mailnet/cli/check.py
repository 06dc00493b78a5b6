"""How ``mailnet check`` prints what it found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mailnet.cli.output import print_table

if TYPE_CHECKING:
    from mailnet.data.check import CheckReport


def print_check(report: CheckReport) -> None:
    """Print counts, then warnings, then every problem with its remedy."""
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
    for warning in report.warnings:
        print(f"Warning: {warning}")
    for problem in report.problems:
        print(f"Problem: {problem}")
    if report.problems or report.warnings:
        print(f"{_count(report.problems, 'problem')}, {_count(report.warnings, 'warning')}")
    else:
        print("Nothing wrong was found.")


def _count(things: Sequence[object], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
