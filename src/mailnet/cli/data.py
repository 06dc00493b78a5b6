"""``mailnet data``: the catalogue of public data sets, and a study made of a download."""

from __future__ import annotations

from typing import Any

from mailnet.cli.output import print_table
from mailnet.data.catalog import Entry, Prepared
from mailnet.data.catalog.folder import layout_lines


def summary(entry: Entry) -> dict[str, Any]:
    """Return a data set's line of the list."""
    return {
        "name": entry.name,
        "modality": entry.modality,
        "tasks": {name: len(task.class_values) for name, task in entry.tasks.items()},
        "images": entry.images,
        "patients": entry.patients,
        "licence": entry.licence,
        "verified": entry.verified,
        "sizes": entry.sizes,
    }


def print_list(entries: list[Entry]) -> None:
    """Print the catalogue, a line a data set."""
    rows = []
    for entry in entries:
        tasks = ", ".join(f"{name} ({len(task.class_values)})" for name, task in entry.tasks.items())
        # What stands behind the licence's name is for 'show', but that it is not sure shows.
        licence = entry.licence.partition(" (")[0].partition(";")[0].partition(",")[0]
        licence += " ?" if "not verified" in entry.licence else ""
        studies = f"{entry.rows or entry.images:,}" if entry.rows or entry.images else "?"
        rows.append([entry.name, entry.modality, tasks, studies, licence, "yes" if entry.verified else "no"])
    columns = ["name", "modality", "tasks (classes)", "rows", "licence", "verified"]
    print_table(f"{len(entries)} data sets; 'mailnet data show NAME' says more", columns, rows)
    print("MedMNIST sets also as NAME_64, and those of two dimensions as NAME_128 and NAME_224.")


def print_entry(entry: Entry) -> None:
    """Print all that the catalogue says of a data set."""
    facts = {
        "modality": entry.modality,
        "images": f"{entry.images:,}" if entry.images else "not stated",
        "patients": f"{entry.patients:,}" if entry.patients else "not stated",
        "image size": entry.size,
        "kept together": entry.group_key,
        "split": _split(entry),
        "licence": entry.licence,
        "cite": entry.citation + (f" doi:{entry.doi}" if entry.doi else ""),
        "source": entry.url,
        "verified": f"{'yes' if entry.verified else 'no'}: {entry.verified_on}",
    }
    print_table(f"{entry.name}: {entry.title}", ["", ""], [[key, value] for key, value in facts.items()])
    for name, task in entry.tasks.items():
        rows = [[label, f"{task.counts[label]:,}" if label in task.counts else "-"] for label in task.class_values]
        print()
        print_table(f"task {name} ({task.kind})", ["class", "published"], rows)
    print("\nKnown traps")
    for trap in entry.traps:
        print(f"- {trap}")
    print("\nLayout of the download (unpacked, in any folder; {field} is read from the name, # is a number)")
    for line in layout_lines(entry):
        print(f"  {line}")
    for item in entry.layout:
        if item.columns:
            print_table(f"columns of {item.path}", ["", ""], [list(pair) for pair in item.columns.items()])
    print(f"\nNothing is downloaded: get it from {entry.url}, then")
    print(f"  mailnet data prepare {entry.name} --from FOLDER -o OUT")


def print_prepared(result: Prepared) -> None:
    """Print what was written, how it is divided, and what to mind."""
    splits = ", ".join(f"{split} {count:,}" for split, count in result.splits.items())
    print(f"{result.studies:,} studies in {result.groups:,} groups: {splits}")
    for name, classes in result.classes.items():
        published = result.entry.tasks[name].counts
        rows = [[c, f"{n:,}", f"{published[c]:,}" if c in published else "-"] for c, n in classes.items()]
        print_table(f"task {name}", ["class", "here", "published"], rows)
    if result.warnings:
        print("Warnings")
        for warning in result.warnings:
            print(f"- {warning}")
    print("Known traps")
    for trap in result.entry.traps:
        print(f"- {trap}")
    print(f"Licence: {result.entry.licence}")
    print(result.study)


def _split(entry: Entry) -> str:
    if entry.prepare.blocks:
        return "blocks of neighbouring numbers, 70/10/20 within each class"
    if entry.split.column:
        return "the publisher's"
    return f"whole groups, {entry.split.train:.0%} / {entry.split.val:.0%} / {entry.split.test:.0%}, stratified"
