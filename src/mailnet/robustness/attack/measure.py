"""Robustness of a run, measured: a suite of attacks at several radii -> ``robustness.json``, the result card."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import mailnet
from mailnet.attacks import Threat
from mailnet.bundle import load
from mailnet.bundle.share import Share
from mailnet.data.config.base import radius_text
from mailnet.errors import ConfigError
from mailnet.evaluation.inputs import load_studies, results_folder
from mailnet.files import read_json, write_json
from mailnet.nn.noise import get_noise
from mailnet.robustness.attack.batch import Attacker
from mailnet.robustness.attack.card import describe_cell, describe_model, describe_tables
from mailnet.robustness.attack.cells import middle_of, plan_cells
from mailnet.robustness.attack.examples import write_examples
from mailnet.robustness.attack.network import choose_draws, choose_precision, choose_suite, draws_numbers, load_source
from mailnet.robustness.attack.shared import Shared, attack_batches, attack_share, describe_start, studies_of
from mailnet.robustness.attack.state import State
from mailnet.robustness.attack.studies import (
    choose_attacked,
    choose_rows,
    choose_tasks,
    digest_studies,
    make_batches,
    one_of_each_kind,
    read_batch,
)
from mailnet.robustness.attack.suites import get_suite
from mailnet.robustness.attack.threats import Level, choose_levels, table_boxes
from mailnet.robustness.audit.of_run import audit_reasons, audit_tasks
from mailnet.robustness.kept import fingerprint

FORMAT = 1
FILE = "robustness.json"


def measure_robustness(
    run: str | Path,
    *,
    study: str | Path | None = None,
    split: str = "test",
    suite: str | None = None,
    norm: str = "linf",
    eps: Sequence[Level] | None = None,
    modalities: Sequence[str] | None = None,
    tables: Mapping[str, float] | None = None,
    each_modality: bool = False,
    tasks: Sequence[str] | None = None,
    together: bool = False,
    studies: int | None = None,
    modes: bool = True,
    max_draws: int = 50,
    repeats: int = 20,
    batch_size: int = 128,
    seed: int = 0,
    audit: bool = False,
    sources: Sequence[str | Path] = (),
    straight_through: bool = False,
    precision: str = "fp32",
    i_know: bool = False,
    out: str | Path | None = None,
    data_root: str | Path | None = None,
    skip_bad: bool = False,
    cache: str | Path | None = None,
    device: str = "auto",
    redraws: bool = False,
    share: Share | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Attack the studies of a run and write ``robustness.json``; given again after a stop, it goes on where it was.

    Given again when it has ended, with the same settings, weights and studies, it returns the card that is there.

    Every task is attacked on its own, by all modalities in the attacker's hands at once. Where a study stands at one
    radius, the search at the next begins; what is broken at one is broken at all larger ones.

    Args:
        run: The run folder.
        study: Another study.yaml; needs ``out``. Default the run's own.
        split: ``train``, ``val``, ``test`` or ``all``.
        suite: See ``get_suite``; default ``standard``, or ``rand`` for a network that draws random numbers.
        norm: ``linf``, ``l2`` or ``l1``.
        eps: Levels, each one radius or modality -> radius of what the attacker holds; default ``LEVELS``.
        modalities: What the attacker holds where a level does not say; default all images and volumes.
        tables: Table -> radius in standard deviations of training; tables are else out of his hands.
        each_modality: Also each modality alone, at the middle level.
        tasks: Which are attacked; default all.
        together: Also all tasks at once; a study is broken where all its answers are wrong.
        studies: So many, drawn at random; default all with a label.
        modes: Also, at the middle level, a random network with its noise off and with the draws of the deployed model.
        max_draws: The most draws of a random network that a gradient is averaged over.
        repeats: Fresh draws by which a random network is scored.
        batch_size: Studies at a time.
        seed: Of the attacks and the choice of studies.
        audit: Also look for signs that gradients are masked.
        sources: Other runs with the same modalities and tasks, of which the audit carries attacks over.
        straight_through: Let gradients pass through clips of the network, which are flat beyond their ends.
        precision: ``fp32``, or ``bf16``, in which the search is mostly faster; what it finds is judged in full.
        i_know: Measure by a suite that does not fit the network; the card says that its figures are not reliable.
        out: Folder of the results; default the run.
        data_root: Where the images lie now.
        skip_bad: Leave studies with an unreadable image out.
        cache: Folder of decoded images.
        device: As ``mailnet.bundle.load`` takes it.
        redraws: Also give the draws of the intervals, by which networks are compared in pairs.
        share: Of this process, where several attack batches of the studies at once. None of them writes the card: the
            same call without a share does. It attacks what they have not done; those still at work end then.
        say: Called with a line for the user.

    Returns:
        The card; no identifier of a study is in it. ``docs/robustness.md`` explains its keys. With ``share``
        ``Shared.as_dict`` instead.

    Raises:
        ConfigError: A choice that does not fit the run, as an unknown modality, or a suite that does not fit it.
        RunError: The run cannot be read, ``out`` is another run, or the files cannot be written.
        DataError: The data cannot be read, or no study has a label.
    """
    began = time.monotonic()
    folder = results_folder(run, study, out)
    _check_counts(max_draws, repeats)
    predictor = load(run, device)
    predictor.model.requires_grad_(False)  # gradients of weights would be computed for nothing
    data = load_studies(predictor, Path(run), None if study is None else Path(study), split, data_root,
                        skip_bad=skip_bad, cache=cache)  # fmt: skip
    others = [load_source(predictor, Path(path), device) for path in sources]
    kind, levels = choose_levels(data, norm, eps, modalities, tables or {})
    attacked = choose_attacked(data, choose_tasks(predictor, data, tasks), together)
    chosen = list(dict.fromkeys(task for group in attacked for task in group))
    held = list(dict.fromkeys(name for level in levels for name in level))
    rows = choose_rows(data, chosen, held, studies, seed, split)
    batches = make_batches(data, rows, batch_size)
    few = [read_batch(data, part[:8], predictor.device) for part in one_of_each_kind(data, batches)]
    search, random = choose_precision(precision, predictor.model, few), draws_numbers(predictor.model, few)
    used, reasons = choose_suite(suite, random, i_know)
    model = describe_model(predictor, Path(run))
    settings = {
        "mailnet": mailnet.__version__, "weights": model["weights"], "studies": digest_studies(data, rows),
        "split": split, "suite": used.as_dict(), "norm": kind, "eps": levels, "each_modality": each_modality,
        "attacked": attacked, "modes": modes, "max_draws": max_draws, "repeats": repeats, "batch_size": batch_size,
        "seed": seed, "device": predictor.device.type, "straight_through": straight_through,
        "sources": [found["weights"] for _, found in others],
        # Else as before there was a choice, so that what was kept and measured then still counts.
        **({} if search == "fp32" else {"precision": search}),
    }  # fmt: skip
    asked = {**settings, "audit": audit, "redraws": redraws, "evaluation": data.config.evaluation.model_dump()}
    own = fingerprint(asked)
    if (known := _read_card(folder, own)) is not None:
        say(f"Measured before, nothing was attacked; to do it again delete {folder / FILE}")
        if share is None:
            return known
        return Shared(share, [*known["suites"]], studies_of(batches, share), len(batches), len(batches), 0,
                      folder / FILE).as_dict()  # fmt: skip
    state = State(folder, settings, guest=share is not None)
    held_words = ", ".join(radius_text(level, kind, tables or {}) for level in levels)
    what = f"suite {used.name}, {kind}, {held_words}, {len(rows)} studies"
    state.announce(describe_start(what, state, batches, share), say)
    middle = levels[middle_of(levels)]
    boxes = {name: (low.to(predictor.device), high.to(predictor.device))
             for name, (low, high) in table_boxes(data).items()}  # fmt: skip
    threat = Threat(kind, middle, {name: box for name, box in boxes.items() if name in middle})
    alignment = state.note("alignment")
    if random and alignment is None:
        alignment = choose_draws(predictor, data, batches, threat, attacked, max_draws, seed,
                                 straight_through=straight_through)  # fmt: skip
        alignment = state.keep_note("alignment", alignment)  # shares that began at once go by the same
    draws = alignment["draws"] if alignment and used.averages else 1
    source = get_noise(predictor.model)
    cells = plan_cells(kind, levels, attacked, used, random=random, draws=draws, each_modality=each_modality,
                       modes=modes and source is not None)  # fmt: skip
    if source is not None and not random:  # it has a source of noise that gives none
        cells = [replace(cell, noise="frozen") for cell in cells]
    attacker = Attacker(predictor.model, predictor.tasks, cells, boxes, repeats, seed, straight_through, search)
    suites = [*dict.fromkeys([used.name, *(cell.suite for cell in cells)])]
    if share is not None:
        return attack_share(attacker, data, batches, state, predictor.device, share, suites,
                            lambda: None if _read_card(folder, own) is None else folder / FILE).as_dict()  # fmt: skip
    found = [one for one, _ in attack_batches(attacker, data, batches, state, predictor.device)]
    audits = None
    if audit:
        met = next(cell.noise for cell in cells if cell.exemplary)
        audits = audit_tasks(predictor, data, rows, threat, attacked, sources=[model for model, _ in others],
                             draws=draws, noise=met, seed=seed, batch_size=batch_size, state=state,
                             straight_through=straight_through)  # fmt: skip
        reasons += audit_reasons(audits)
    card = {
        "format": FORMAT,
        "mailnet": mailnet.__version__,
        "fingerprint": own,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "study": data.config.name,
        "external": study is not None,
        "split": split,
        "n": len(rows),
        "of": len(data),
        "groups": int(data.frame["group"].iloc[rows].nunique()),
        "seed": seed,
        "device": str(predictor.device),
        "model": model,
        "random": random,
        "suites": {name: get_suite(name).as_dict()["members"] for name in suites},
        "suite": used.name,
        "threat": {
            "norm": kind,
            "levels": levels,
            "middle": middle_of(levels),
            "tables": describe_tables(data, tables or {}),
            "straight_through": straight_through,
        },
        "precision": search,
        "tasks": {name: {"kind": data.tasks[name].kind, "classes": list(data.tasks[name].classes)} for name in chosen},
        "alignment": alignment,
        "repeats": repeats if random else 1,
        "bootstrap": data.config.evaluation.bootstrap,
        "cells": [describe_cell(cell, number, data, batches, found, random=random, redraws=redraws)
                  for number, cell in enumerate(cells)],
        "examples": write_examples(folder, data, cells, batches, found),
        "audit": audits,
        "sources": [{key: found[key] for key in ("name", "weights", "defense")} for _, found in others],
        "unreliable": bool(reasons),
        "reasons": reasons,
        "seconds": 0.0,
    }  # fmt: skip
    card["seconds"] = round(max(time.monotonic() - began, sum(cell["seconds"] for cell in card["cells"])), 1)
    write_json(folder / FILE, card)
    state.remove()
    return card


def _read_card(folder: Path, own: str) -> dict[str, Any] | None:
    """Return the card of a folder where it is of these settings."""
    file = folder / FILE
    known = read_json(file) if file.is_file() else {}
    return dict(known) if known.get("fingerprint") == own else None


def _check_counts(max_draws: int, repeats: int) -> None:
    for name, count, usual in (("max_draws", max_draws, 50), ("repeats", repeats, 20)):
        if count < 1:
            raise ConfigError(f"{name} must be at least 1, got {count}", remedy=f"Usual is {usual}")
