"""What ``mailnet explain`` found, as a section of a run's report."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mailnet.errors import RunError
from mailnet.files import read_json
from mailnet.report import words
from mailnet.report.check import template
from mailnet.report.results import SMALL_GROUP

if TYPE_CHECKING:
    from markupsafe import Markup

FORMAT = 1
FOLDER, FILE = "explanations", "explanations.json"
SHOWN = 12  # pictures on the page
SIDE = 900  # pixels of a picture's longer side
PIXELS = 40_000_000  # of a file above which it is none of ours
BUDGET = 1_600_000  # characters of all pictures together
COLUMNS = 8  # of a table, those worth most


@dataclass(frozen=True)
class Worth:
    """What a modality or column is worth, over several studies.

    Args:
        name: Of the modality or column.
        n: Studies that have it.
        mean: Mean worth, log-odds of the class explained.
        size: Mean of the worth without its sign.
        low: Where the bar of the mean begins, in percent of the width.
        length: Of the bar.
    """

    name: str
    n: int
    mean: float
    size: float
    low: float
    length: float


@dataclass(frozen=True)
class Entry:
    """One study explained, as the page shows it."""

    row: int
    target: str
    probability: float | None
    truth: str | None
    predicted: bool
    right: bool | None
    worth: str
    absent: str
    margins: str
    picture: str | None


@dataclass(frozen=True)
class TaskView:
    """One task: what its modalities and columns are worth, and some of its studies."""

    name: str
    modalities: list[Worth]
    columns: list[tuple[str, list[Worth]]]
    ordinal: bool
    entries: list[Entry]


def render_explanations(run: Path) -> Markup | None:
    """Return the section as HTML; None where the run has no ``explanations/explanations.json``.

    Raises:
        RunError: The file is damaged or of a newer mailnet.
    """
    from markupsafe import Markup

    path = run / FOLDER / FILE
    if not path.is_file():
        return None
    found = read_json(path)
    if int(found.get("format", FORMAT)) > FORMAT:
        remedy = "Update mailnet, or give 'mailnet explain' again"
        raise RunError(f"was written by a newer mailnet, {found.get('mailnet')}", file=path, remedy=remedy)
    entries = found["entries"]
    if not entries:
        return None
    by_task: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        by_task.setdefault(entry["task"], []).append(entry)
    left = BUDGET
    tasks = []
    for name, several in by_task.items():
        shown = []
        for entry in several[: max(SHOWN // len(by_task), 1)]:
            picture = _picture(path.parent, str(entry["picture"]), left)
            left -= len(picture or "")
            shown.append(_entry(entry, picture))
        columns = [(table, _worth([entry["columns"].get(table) for entry in several], COLUMNS))
                   for table in dict.fromkeys(table for entry in several for table in entry["columns"])]  # fmt: skip
        modalities, ordinal = _worth([entry["modalities"] for entry in several]), several[0].get("kind") == "ordinal"
        tasks.append(TaskView(name, modalities, columns, ordinal, shown))
    studies = len({entry["row"] for entry in entries})
    view = {
        "found": found,
        "tasks": tasks,
        "method": str(found["method"]).replace("_", " "),
        "studies": studies,
        "few": studies < SMALL_GROUP,
        "left_out": len(entries) - sum(len(task.entries) for task in tasks),
        "gone": any(entry.picture is None for task in tasks for entry in task.entries),
        "number": words.number,
        "count": words.count,
        "signed": _signed,
    }
    return Markup(template("explanations.html").render(view))


def _entry(entry: Mapping[str, Any], picture: str | None) -> Entry:
    said: Mapping[str, float] = entry["probabilities"]
    # Of labels any number may be true, so none is the answer.
    answer = None if entry.get("kind") == "multilabel" else max(said, key=lambda name: said[name], default=None)
    truth, predicted = entry["truth"], entry["target"] == answer
    worth = entry["modalities"] or {}
    return Entry(
        row=int(entry["row"]),
        target=str(entry["target"]),
        probability=said.get(entry["target"]),
        truth=truth,
        predicted=predicted,
        right=truth == answer if predicted and truth is not None else None,
        worth=", ".join(f"{name} {_signed(value)}" for name, value in worth.items()),
        absent=words.listing([str(name) for name in entry["absent"]]),
        # None of an older mailnet; what rounds to nothing is not worth a word.
        margins=", ".join(f"{name} {share:.0%}" for name, share in entry.get("margins", {}).items() if share >= 0.005),
        picture=picture,
    )


def _worth(several: Sequence[Mapping[str, float] | None], most: int | None = None) -> list[Worth]:
    """Return what each name is worth over the studies that have it; of more than ``most`` names those worth most."""
    values: dict[str, list[float]] = {}
    for one in several:
        for name, value in (one or {}).items():
            values.setdefault(name, []).append(float(value))
    sizes = {name: float(np.abs(of).mean()) for name, of in values.items()}
    names = list(values) if most is None else sorted(values, key=lambda name: -sizes[name])[:most]
    means = {name: float(np.mean(values[name])) for name in names}
    top = max((abs(mean) for mean in means.values()), default=0.0) or 1.0
    found = []
    for name, mean in means.items():
        length = 50 * abs(mean) / top
        low = 50 - length if mean < 0 else 50
        found.append(Worth(name, len(values[name]), mean, sizes[name], round(low, 2), round(length, 2)))
    return found


def _picture(folder: Path, name: str, left: int) -> str | None:
    """Return a picture as a data URI; None where it is gone, no picture, or too large for the page."""
    from PIL import Image

    if Path(name).name != name or name.startswith("."):
        return None  # not one of this folder
    try:
        with Image.open(folder / name) as image:
            if image.width * image.height > PIXELS:
                return None
            picture = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    uri = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
    return uri if len(uri) <= left else None


def _signed(value: float) -> str:
    return f"{value:+.2f}"
