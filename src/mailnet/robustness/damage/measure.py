"""Natural damage of a run: every kind of corruption of each modality, each modality missing, each another patient's."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

import mailnet
from mailnet.bundle import load
from mailnet.bundle.weights import weights_digest
from mailnet.errors import DataError
from mailnet.evaluation.inputs import load_studies, results_folder
from mailnet.files import read_json, write_json
from mailnet.robustness.attack.studies import digest_studies
from mailnet.robustness.corruptions import CORRUPTIONS
from mailnet.robustness.damage.asking import Measured, ask_all
from mailnet.robustness.damage.choice import check_same, choose_kinds, choose_modalities, choose_severities
from mailnet.robustness.damage.harm import Reader
from mailnet.robustness.damage.pictures import write_pictures
from mailnet.robustness.kept import Kept, fingerprint

FORMAT = 1
FILE, PROGRESS = "corruptions.json", "corruptions.progress"


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
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure what natural damage does to a run and write ``corruptions.json`` and example pictures.

    Given again after a stop, it goes on where it was; given again when it has ended, with the same settings, weights
    and studies, it returns what is there.

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
        say: Called with a line for the user.

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
        data = load_studies(predictor, path, None, split, data_root, skip_bad=skip_bad, cache=cache)
        return Measured(path, data, predictor)

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
    asked_for = {
        "mailnet": mailnet.__version__, "modalities": chosen, "kinds": kinds, "severities": severities, "split": split,
        "seed": seed, "device": own.predictor.device.type,
        "of": [[weights_digest(each.run), digest_studies(each.data, np.arange(len(each.data)))] for each in both],
    }  # fmt: skip
    print_of = fingerprint({**asked_for, "evaluation": settings.model_dump(), "reference": str(reference)})
    if (folder / FILE).is_file() and (known := read_json(folder / FILE)).get("fingerprint") == print_of:
        say(f"Measured before, nothing was predicted; to do it again delete {folder / FILE}")
        return dict(known)
    kept = Kept(folder / PROGRESS, asked_for)
    what = f"{len(kinds)} kinds of damage of {' and '.join(chosen)}, {len(own.data)} studies"
    kept.announce(f"Going on with the measurement that was stopped: {what}" if kept.resumed else "", say)
    ask_all(both, settings, kinds, severities, chosen, kept, seed)
    pictures = write_pictures(folder, own.data, chosen, kinds, seed)
    result = {
        "format": FORMAT,
        "mailnet": mailnet.__version__,
        "fingerprint": print_of,
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
    kept.remove()
    return result


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
