"""``mailnet demo``: data, training, evaluation and report in one command."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mailnet.cli.output import say

STUDIES = 2000


def run_demo(
    study: Path | None,
    out: Path,
    *,
    studies: int | None = None,
    data_root: Path | None = None,
    overrides: Sequence[str] = (),
    skip_bad: bool = False,
) -> dict[str, Any]:
    """Train, evaluate and report a study, by default a phantom that is generated first.

    Args:
        study: A study.yaml; None for the phantom, which is written to ``out/data``.
        out: Folder of the demo; the run is ``out/run``.
        studies: Number of the phantom's studies; None for 2000.
        data_root: Of the study.
        overrides: Of the study.
        skip_bad: Leave studies with an unreadable image out.

    Returns:
        ``run``, ``report``, ``seconds``, ``evaluation`` and ``notes`` (lines for people).

    Raises:
        ConfigError: A number is given for a study that is there.
    """
    from mailnet.data.config import load_config
    from mailnet.data.phantom import accuracy_bound, single_modality_bound, write_phantom
    from mailnet.errors import ConfigError
    from mailnet.evaluation import evaluate
    from mailnet.report import write_report
    from mailnet.training import train

    started = time.monotonic()
    notes = []
    if study is not None and studies is not None:
        raise ConfigError("--studies is of the phantom, and --study takes its place", remedy="Give one of them")
    if study is None:
        say(f"Generating a head phantom of paired MRI, CT and SPECT in {out / 'data'}")
        study = write_phantom(out / "data", studies or STUDIES)
        best = ", ".join(f"{bound:.0%} from {name} alone" for name, bound in single_modality_bound().items())
        notes.append(
            f"By construction of the phantom, the best possible accuracy of 'finding' is {best}, and "
            f"{accuracy_bound(['mri', 'ct', 'spect']):.0%} from all three: what goes beyond one modality is fusion."
        )
    run = train(load_config(study, overrides, data_root), out / "run", skip_bad=skip_bad).run
    evaluation = evaluate(run, data_root=data_root, skip_bad=skip_bad)
    report = write_report(run, data_root=data_root)
    seconds = time.monotonic() - started
    notes.append(f"{seconds:.0f} seconds in all")
    return {
        "run": str(run),
        "report": str(report),
        "seconds": round(seconds, 1),
        "evaluation": evaluation,
        "notes": notes,
    }
