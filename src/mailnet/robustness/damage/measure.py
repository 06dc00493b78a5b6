"""Natural damage of a run: every kind of corruption of each modality, each modality missing, each another patient's."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

import mailnet
from mailnet.bundle import Predictor, load
from mailnet.data.progress import progress
from mailnet.data.study import StudyData
from mailnet.errors import DataError
from mailnet.evaluation.hiding import Hidden, leave_out
from mailnet.evaluation.inputs import load_studies, results_folder
from mailnet.files import write_json
from mailnet.robustness.corruptions import CORRUPTIONS
from mailnet.robustness.damage.choice import check_same, choose_kinds, choose_modalities, choose_severities
from mailnet.robustness.damage.damaged import Advance, predict_damaged, predict_swapped, swap_partners
from mailnet.robustness.damage.harm import Harm, Reader, Reading, estimate, read_harm
from mailnet.robustness.damage.pictures import write_pictures

FORMAT = 1
FILE = "corruptions.json"


@dataclass
class Measured:
    """What was found of one run.

    Args:
        data: Its studies.
        predictor: Its model.
        harms: Modality -> task -> harm.
        missing: Modality -> task -> metrics with the modality and without it.
        swapped: Modality -> task -> the same with it and with another patient's.
    """

    data: StudyData
    predictor: Predictor
    harms: dict[str, dict[str, Harm]] = field(default_factory=dict)
    missing: dict[str, Any] = field(default_factory=dict)
    swapped: dict[str, Any] = field(default_factory=dict)


def measure_damage(
    run: str | Path,
    *,
    modalities: Sequence[str] = (),
    kinds: Sequence[str] = (),
    severities: Sequence[int] = (),
    split: str = "test",
    reference: str | Path | None = None,
    out: str | Path | None = None,
    data_root: str | Path | None = None,
    skip_bad: bool = False,
    cache: str | Path | None = None,
    device: str = "auto",
    bootstrap: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure what natural damage does to a run and write ``corruptions.json`` and example pictures.

    Args:
        run: The run folder.
        modalities: Whose images are damaged; default all that are not tables.
        kinds: Names of ``CORRUPTIONS``; default all.
        severities: Of 1 to 5; default all.
        split: ``train``, ``val``, ``test`` or ``all``.
        reference: Another run on the same studies, against which errors are divided.
        out: Folder of the results; default the run.
        data_root: Where the images lie now.
        skip_bad: Leave studies with an unreadable image out.
        cache: Folder of decoded images.
        device: As ``mailnet.bundle.load`` takes it.
        bootstrap: Redraws of the intervals; default as the study.yaml says.
        seed: Of the damage and of who is swapped with whom.

    Returns:
        What ``corruptions.json`` holds; no identifier of a study is in it.

    Raises:
        ConfigError: An unknown modality, kind or severity, a table, or a reference with other studies.
        RunError: A run cannot be read, ``out`` is another run, or the files cannot be written.
        DataError: The data cannot be read, or no study has a label.
    """
    start = time.monotonic()
    folder = results_folder(run, None, out)
    kinds, severities = choose_kinds(kinds), choose_severities(severities)

    def opened(path: Path) -> Measured:
        predictor = load(path, device)
        return Measured(
            load_studies(predictor, path, None, split, data_root, skip_bad=skip_bad, cache=cache), predictor
        )

    own = opened(Path(run))
    chosen = choose_modalities(own.data, modalities)
    settings = own.data.config.evaluation
    if not Reader(own.data, settings).labelled(np.arange(len(own.data))):
        raise DataError(f"no study of the split '{split}' has a label", remedy="Choose another split")
    other = None if reference is None else opened(Path(reference))
    if other is not None:
        check_same(own.data, other.data, chosen, Path(str(reference)))
    if bootstrap is not None:
        settings = settings.model_copy(update={"bootstrap": bootstrap})
    both = [own] if other is None else [own, other]
    rows = {name: np.flatnonzero(own.data.present[name]) for name in chosen}
    cells = len(kinds) * len(severities)
    hidden = {name: leave_out(own.data, name) for name in own.data.modalities}
    total = len(both) * sum(len(r) for r in rows.values()) * cells + len(own.data) * len(both)
    with progress("Predicting damaged studies", total + 2 * sum(len(each.rows) for each in hidden.values())) as advance:
        for measured in both:
            reader = Reader(measured.data, settings)
            plain = measured.predictor.predict_data(measured.data, np.arange(len(measured.data)))
            advance(len(measured.data))
            for name, here in rows.items():
                damaged = predict_damaged(
                    measured.predictor, measured.data, name, here, kinds, severities, seed, advance
                )
                measured.harms[name] = read_harm(reader, here, _of(plain, here), damaged)
            if measured is own:
                for name, each in hidden.items():
                    _miss(own, reader, name, each, plain, advance)
                    _swap(own, reader, name, each, plain, seed, advance)
    pictures = write_pictures(folder, own.data, chosen, kinds, seed)
    result = {
        "format": FORMAT,
        "mailnet": mailnet.__version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "study": own.data.config.name,
        "split": split,
        "n": len(own.data),
        "model": {"name": own.predictor.bundle.model_name, "noise": own.predictor.noise},
        "settings": {
            "modalities": chosen,
            "kinds": {kind: [CORRUPTIONS[kind].values[s - 1] for s in severities] for kind in kinds},
            "severities": list(severities),
            "bootstrap": settings.bootstrap,
            "seed": seed,
        },
        "modalities": {
            name: {task: harm.as_dict() for task, harm in harms.items()} for name, harms in own.harms.items()
        },
        "missing": own.missing,
        "swapped": own.swapped,
        "reference": None if other is None else _against(own, other, Path(str(reference))),
        "pictures": pictures,
        "seconds": round(time.monotonic() - start, 1),
    }
    write_json(folder / FILE, result)
    return result


def _miss(
    own: Measured, reader: Reader, name: str, hidden: Hidden, plain: Mapping[str, np.ndarray], advance: Advance
) -> None:
    if tasks := reader.labelled(hidden.rows):
        found = own.predictor.predict_data(own.data, hidden.rows, without=hidden.without)
        own.missing[name] = {
            task: _compared(reader.read(task, plain[task][hidden.rows], hidden.rows),
                            reader.read(task, found[task], hidden.rows), "missing")
            for task in tasks
        }  # fmt: skip
    advance(len(hidden.rows))


def _swap(
    own: Measured,
    reader: Reader,
    name: str,
    hidden: Hidden,
    plain: Mapping[str, np.ndarray],
    seed: int,
    advance: Advance,
) -> None:
    groups = own.data.frame["unit"].to_numpy(dtype=str)[hidden.rows]
    partners = swap_partners(groups, seed)
    rows, partners = hidden.rows[partners >= 0], hidden.rows[partners[partners >= 0]]
    if tasks := reader.labelled(rows):
        found = predict_swapped(own.predictor, own.data, name, rows, partners, lambda count: None)
        own.swapped[name] = {}
        for task in tasks:
            before, after = plain[task][rows], found[task]
            compared = _compared(reader.read(task, before, rows), reader.read(task, after, rows), "swapped")
            own.swapped[name][task] = compared | _confidence(before, after, own.data.tasks[task].kind == "multilabel")
    advance(len(hidden.rows))


def _compared(before: Reading, after: Reading, word: str) -> dict[str, Any]:
    loss = estimate(after.error[0] - before.error[0], np.asarray(after.error[1] - before.error[1]))
    return {"n": before.n, "clean": before.metrics(), word: after.metrics(), "loss": loss}


def _confidence(before: np.ndarray, after: np.ndarray, multilabel: bool) -> dict[str, float]:
    """Return the mean probability of what is answered, before and after, and how often the answer stays."""
    if multilabel:
        sure = [float(np.maximum(p, 1 - p).mean()) for p in (before, after)]
        same = float(((before > 0.5) == (after > 0.5)).mean())
    else:
        sure = [float(p.max(1).mean()) for p in (before, after)]
        same = float((before.argmax(1) == after.argmax(1)).mean())
    return {"confidence_clean": sure[0], "confidence_swapped": sure[1], "same_answer": same}


def _against(own: Measured, other: Measured, reference: Path) -> dict[str, Any]:
    return {
        "run": reference.name,
        "model": other.predictor.bundle.model_name,
        "modalities": {
            name: {
                task: {**harm.against(other.harms[name][task]), "own": other.harms[name][task].as_dict()}
                for task, harm in harms.items()
                if task in other.harms[name]
            }
            for name, harms in own.harms.items()
        },
    }


def _of(plain: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {task: values[rows] for task, values in plain.items()}
