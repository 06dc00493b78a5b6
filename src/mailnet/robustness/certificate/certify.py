"""Certificates of a run's studies by randomized smoothing -> ``certificate.json``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mailnet
from mailnet.bundle import Predictor, load
from mailnet.bundle.weights import weights_digest
from mailnet.data.config import load_config
from mailnet.data.dataset import StudyDataset
from mailnet.data.progress import progress
from mailnet.data.study import StudyData
from mailnet.errors import ConfigError, DataError
from mailnet.evaluation.inputs import load_studies, results_folder
from mailnet.files import write_json
from mailnet.robustness.attack.studies import digest_studies
from mailnet.robustness.certificate.base import BaseClassifier, BaseNoise, find_questions
from mailnet.robustness.certificate.certified import Resample, summarise
from mailnet.robustness.certificate.lines import Lines
from mailnet.robustness.certificate.smoothing import certify_all
from mailnet.robustness.kept import Kept

FORMAT = 1
FILE, LINES, PROGRESS = "certificate.json", "certificate.jsonl", "certificate.progress"
SELECTION = 100
TOGETHER = 100


def certify_run(
    run: str | Path,
    sigma: Mapping[str | None, float],
    *,
    draws: int = 1000,
    level: float = 0.001,
    studies: int | None = None,
    tasks: Sequence[str] = (),
    noise: str = "sample",
    split: str = "test",
    out: str | Path | None = None,
    data_root: str | Path | None = None,
    skip_bad: bool = False,
    cache: str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Certify studies of a run; given again after a stop, or for more studies, it goes on where it was.

    What was certified by other settings stays until this one has ended, or, if it was stopped, until gone on with.

    Args:
        run: The run folder.
        sigma: Modality -> deviation of its noise; None stands for every image that is not named.
        draws: That bound the chance of an answer, after 100 that choose it.
        level: Chance that the promise of a study and task is wrong.
        studies: How many, drawn at random; more of them include the fewer. Default all.
        tasks: Which are certified; default all.
        noise: Of a random network, see ``BaseClassifier``.
        split: ``train``, ``val``, ``test`` or ``all``.
        out: Folder of the results; default the run.
        data_root: Where the images lie now.
        skip_bad: Leave studies with an unreadable image out.
        cache: Folder of decoded images.
        device: As ``mailnet.bundle.load`` takes it.
        seed: Of the noise and of which studies are drawn.
        say: Called with a line for the user.

    Returns:
        What ``certificate.json`` holds; no identifier of a study is in it.

    Raises:
        ConfigError: An unknown modality or task, a sigma that is not positive or of a table, too few draws.
        RunError: The run cannot be read, ``out`` is another run, or the files cannot be written.
        DataError: The data cannot be read, or no study has a label.
    """
    start = time.monotonic()
    folder = results_folder(run, None, out)
    predictor = load(run, device)
    deviations = choose_sigma(sigma, predictor, Path(run))
    mode = _check(predictor, draws, level, studies, tasks, noise)
    data = load_studies(predictor, Path(run), None, split, data_root, skip_bad=skip_bad, cache=cache)
    questions = find_questions(data.tasks, [name for name in data.tasks if not tasks or name in tasks])
    if not any((question.labels(data.labels) >= 0).any() for question in questions):
        raise DataError(f"no study of the split '{split}' has a label", remedy="Choose other tasks or another split")
    chosen, left_out = _studies(data, deviations, studies, seed)
    base = BaseClassifier(predictor, questions, mode)
    settings = {
        "sigma": deviations,
        "draws": draws,
        "selection": SELECTION,
        "level": level,
        "questions": [question.name for question in questions],
        "noise": base.noise,
        "split": split,
        "seed": seed,
    }
    plain = predictor.predict_data(data, chosen)
    asked_for = {**settings, "of": [weights_digest(Path(run)), digest_studies(data, np.arange(len(data)))]}
    kept = Kept(folder / PROGRESS, asked_for)
    lines = Lines(kept.folder / LINES, asked_for, folder / LINES)
    before = sum(place in lines.found for place in chosen.tolist())
    kept.announce(f"Certified before with these settings: {before} of {len(chosen)} studies" if before else "", say)
    with progress("Certifying studies", len(chosen)) as advance:
        for place in chosen.tolist():
            known = place in lines.found
            if not known:
                lines.add(place, _certified(base, data, place, deviations, settings))
            advance(1, before=known)
    groups = data.frame["group"].iloc[chosen]
    redrawn = data.config.evaluation
    resample = None if groups.is_unique else Resample(groups.to_numpy(str), redrawn.bootstrap, redrawn.seed)
    result = {
        "format": FORMAT,
        "mailnet": mailnet.__version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "study": data.config.name,
        "n": len(chosen),
        "of": len(data),
        "left_out": left_out,
        "groups": int(groups.nunique()),
        "model": {"name": predictor.bundle.model_name, "noise": base.noise},
        "settings": {**settings, "device": str(predictor.device)},
        "promises_nothing_about": [name for name in predictor.modalities if name not in deviations],
        "tasks": {
            question.name: summarise(question, [lines.found[place] for place in chosen.tolist()],
                                     question.labels(data.labels)[chosen], question.answers(plain), settings, resample)
            for question in questions
        },
        "seconds": round(time.monotonic() - start, 1),
    }  # fmt: skip
    lines.save(folder / LINES)
    write_json(folder / FILE, result)
    kept.remove()
    return result


def _certified(
    base: BaseClassifier, data: StudyData, place: int, sigma: Mapping[str, float], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the line of one study: question -> answer, radius, bound, and what most draws gave."""
    device = base.predictor.device
    batch = StudyDataset(data).batch(np.array([place]))
    inputs = {name: x[0].to(device) for name, x in batch.inputs.items()}
    # The CPU's numbers are the same everywhere; a GPU's own save the transfer of every copy's noise.
    generator = torch.Generator(device if device.type == "cuda" else "cpu").manual_seed(
        int.from_bytes(sha256(f"{settings['seed']}/{place}".encode()).digest()[:7], "big")
    )
    base.start(generator)
    found = certify_all(
        base,
        inputs,
        {name: deviation for name, deviation in sigma.items() if name in inputs},
        selection=SELECTION,
        draws=settings["draws"],
        level=settings["level"],
        batch=1 if base.singly else TOGETHER,
        generator=generator,
    )
    return {
        "row": int(data.frame["row"].iloc[place]),
        "found": {name: [each.answer, each.radius, each.bound, each.chosen] for name, each in found.items()},
    }


def choose_sigma(sigma: Mapping[str | None, float], predictor: Predictor, run: Path) -> dict[str, float]:
    """Return modality -> deviation in the model's order; the run's own is named where none is given.

    Raises:
        ConfigError: Nothing is asked, a modality is unknown or a table, or a deviation is not positive.
    """
    images = [name for name, spec in predictor.modalities.items() if spec.kind != "tabular"]
    for name, deviation in sigma.items():
        if name is not None and name not in predictor.modalities:
            remedy = f"It has {', '.join(predictor.modalities)}"
            raise ConfigError(f"the run has no modality '{name}'", remedy=remedy)
        if name is not None and name not in images:
            raise ConfigError(
                "is a table, whose columns have no common measure of distance; certificates are of images",
                modality=name,
                remedy=f"Choose from {', '.join(images)}" if images else "The run has no images",
            )
        if not 0 < deviation < float("inf"):
            raise ConfigError(
                f"sigma must be positive, got {deviation:g}", modality=name, remedy="Images have values of 0 to 1: 0.25"
            )
    everywhere = sigma.get(None)
    found = {name: sigma.get(name, everywhere) for name in images}
    chosen = {name: float(deviation) for name, deviation in found.items() if deviation is not None}
    if not chosen:
        raise ConfigError("no image gets noise, so nothing can be promised", remedy=_usual_sigma(run))
    return chosen


def _usual_sigma(run: Path) -> str:
    study = run / "study.yaml"
    defense = load_config(study).train.defense if study.is_file() else None
    if defense is not None and defense.sigma is not None:
        own = defense.sigma if isinstance(defense.sigma, dict) else {"": defense.sigma}
        given = " ".join(f"--sigma {name}{'=' if name else ''}{deviation:g}" for name, deviation in own.items())
        return f"The run was trained with {given}: give the same"
    return (
        "Give --sigma 0.25, or NAME=0.25 for one image. Usual are 0.12, 0.25, 0.5 and 1 for images in [0, 1]: larger"
        " ones reach further and cost accuracy, least where the network was trained with them (--defense gaussian)"
    )


def _check(
    predictor: Predictor, draws: int, level: float, studies: int | None, tasks: Sequence[str], noise: str
) -> BaseNoise:
    """Return the noise that was asked for, once everything else can be done."""
    for name in tasks:
        if name not in predictor.tasks:
            raise ConfigError(f"the run has no task '{name}'", remedy=f"It has {', '.join(predictor.tasks)}")
    if draws < 1 or (studies is not None and studies < 1):
        raise ConfigError("draws and studies must be at least 1", remedy="Usual are 1000 draws or more")
    if not 0 < level < 1:
        raise ConfigError(f"level must lie between 0 and 1, got {level:g}", remedy="Usual is 0.001")
    if noise not in ("sample", "off"):
        raise ConfigError(f"'{noise}' is no noise of a network", remedy="Choose sample or off")
    return "sample" if noise == "sample" else "off"


def _studies(data: StudyData, sigma: Mapping[str, float], studies: int | None, seed: int) -> tuple[np.ndarray, int]:
    """Return positions of the studies to certify, and how many have none of the images that get noise."""
    able = np.any([data.present[name] for name in sigma], axis=0)
    order = np.random.default_rng(seed).permutation(np.flatnonzero(able))
    return order[:studies], int((~able).sum())
