"""What ``mailnet corrupt`` measured, as a section of a run's report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from mailnet.errors import RunError
from mailnet.files import read_json
from mailnet.report import words
from mailnet.report.check import template
from mailnet.report.examples import encode
from mailnet.report.panels import DASHES, Axis, Line, panel, share_axis

if TYPE_CHECKING:
    from markupsafe import Markup

FORMAT = 1
WIDTH, HEIGHT = 210, 120


@dataclass(frozen=True)
class Kind:
    """One kind of damage of one modality."""

    name: str
    chart: Markup
    picture: str | None
    loss: float


@dataclass(frozen=True)
class Modality:
    """One modality, its kinds of damage by falling loss."""

    name: str
    tasks: list[tuple[str, Mapping[str, Any]]]
    clean: str | None
    kinds: list[Kind]


def render_damage(run: Path) -> Markup | None:
    """Return the section as HTML; None where the run has no ``corruptions.json``.

    Raises:
        RunError: The file is damaged or of a newer mailnet.
    """
    from markupsafe import Markup

    path = run / "corruptions.json"
    if not path.is_file():
        return None
    found = read_json(path)
    if int(found.get("format", FORMAT)) > FORMAT:
        remedy = "Update mailnet, or give 'mailnet corrupt' again"
        raise RunError(f"was written by a newer mailnet, {found.get('mailnet')}", file=path, remedy=remedy)
    pictures = _pictures(run, found)
    modalities = [_modality(name, tasks, found, pictures) for name, tasks in found["modalities"].items()]
    view = {
        "damage": found,
        "modalities": modalities,
        "tasks": list(dict.fromkeys(task for of in found["modalities"].values() for task in of)),
        "whole": _whole(found),
        "pictured": bool(pictures),
        "dashes": DASHES,
        "kind_name": _spoken,
        "number": words.number,
        "count": words.count,
        "interval": lambda raw: words.interval(words.estimate(raw), percent=True),
    }
    return Markup(template("damage.html").render(view))


def _modality(
    name: str, tasks: Mapping[str, Any], found: Mapping[str, Any], pictures: Mapping[str, Mapping[str, str]]
) -> Modality:
    severities = found["settings"]["severities"]
    values = [
        estimate.get("low", estimate["value"])
        for of in tasks.values()
        for at in (of["clean"], *(at for kind in of["kinds"].values() for at in kind["severities"].values()))
        if (estimate := at["balanced_accuracy"]) is not None
    ]
    y = share_axis(values)
    x = Axis(0, max(severities), [(0, "clean"), *((s, str(s)) for s in severities)])
    kinds = []
    for kind in found["settings"]["kinds"]:
        lines = [_line(of, kind, k) for k, of in enumerate(tasks.values())]
        losses = [
            at["loss"]["value"]
            for of in tasks.values()
            for at in of["kinds"][kind]["severities"].values()
            if at["loss"] is not None
        ]
        loss = float(np.mean(losses)) if losses else 0.0
        alt = f"Balanced accuracy under {_spoken(kind)} of {name}; mean loss {100 * loss:.1f} points"
        chart = panel([line for line in lines if line is not None], x, y, width=WIDTH, height=HEIGHT, alt=alt)
        kinds.append(Kind(kind, chart, pictures.get(name, {}).get(kind), loss))
    kinds.sort(key=lambda each: -each.loss)
    return Modality(name, list(tasks.items()), pictures.get(name, {}).get("clean"), kinds)


def _line(of: Mapping[str, Any], kind: str, series: int) -> Line | None:
    clean = of["clean"]["balanced_accuracy"]
    given = {0: clean} | {int(s): at["balanced_accuracy"] for s, at in of["kinds"][kind]["severities"].items()}
    points = [
        (float(s), *(e[key] for key in ("value", "low", "high") if key in e)) for s, e in given.items() if e is not None
    ]
    return Line(points, series, None if clean is None else clean["value"]) if points else None


def _whole(found: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return task -> a row a modality that was missing or swapped."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, tasks in found["missing"].items():
        for task, missing in tasks.items():
            swapped = found["swapped"].get(name, {}).get(task)
            rows.setdefault(task, []).append({"name": name, "missing": missing, "swapped": swapped})
    return rows


def _pictures(run: Path, found: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return modality -> kind, or ``clean`` -> data URI; empty where they are gone."""
    about = found.get("pictures") or {}
    path = run / "corruptions.npz"
    if not about or not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {
                name: dict(zip(("clean", *about["kinds"]), map(encode, arrays[f"images_{k}"]), strict=True))
                for k, name in enumerate(about["modalities"])
            }
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        remedy = "Delete it, or give 'mailnet corrupt' again"
        raise RunError(f"is damaged ({error})", file=path, remedy=remedy) from error


def _spoken(kind: str) -> str:
    return {"jpeg": "JPEG", "gibbs": "Gibbs ringing"}.get(kind, kind.replace("_", " "))
