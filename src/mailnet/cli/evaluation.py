"""``mailnet evaluate``, and what other commands do with an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mailnet.cli.options import Cache, DataRoot, Device, Json, RunPath, SkipBad
from mailnet.cli.output import print_json, print_table, say


def evaluate(
    run: RunPath,
    study: Annotated[
        Path | None, typer.Option(help="Another study.yaml, for external validation.", show_default=False)
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="train, val, test, or all; default test, and all with --study.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; default the run, needed with --study.")
    ] = None,
    data_root: DataRoot = None,
    absent: Annotated[
        bool, typer.Option("--absent", help="Also measure every combination of modalities present and absent.")
    ] = False,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate", help="First fit a calibration on the run's validation studies, kept in its bundle."
        ),
    ] = False,
    calibration: Annotated[
        str | None,
        typer.Option(
            help="temperature (default, changes no answer), vector, isotonic (binary and multilabel tasks), none.",
            show_default=False,
        ),
    ] = None,
    conformal: Annotated[
        list[float] | None,
        typer.Option(
            help="First fit sets of answers that miss the true one with at most this chance, as 0.1; may be repeated.",
            show_default=False,
        ),
    ] = None,
    score: Annotated[str, typer.Option(help="Of these sets: lac, aps, raps.")] = "lac",
    by_class: Annotated[
        bool, typer.Option("--by-class", help="Let the promise of these sets hold for each class by itself.")
    ] = False,
    abstain_at_risk: Annotated[
        float | None,
        typer.Option(
            help="First fit a threshold below which the model does not answer, so that at most this share is wrong.",
            show_default=False,
        ),
    ] = None,
    subgroups: Annotated[
        bool, typer.Option("--subgroups", help="Also measure the gaps between subgroups, with intervals.")
    ] = False,
    uncertainty: Annotated[
        bool,
        typer.Option(
            "--uncertainty",
            help="Also measure how unsure the model is, of a random network, one with dropout or an ensemble.",
        ),
    ] = False,
    draws: Annotated[int, typer.Option(help="Draws for --uncertainty; an ensemble has its members.", min=2)] = 20,
    foreign: Annotated[
        bool,
        typer.Option("--foreign", help="First fit what tells studies unlike those of training, kept in its bundle."),
    ] = False,
    false_alarms: Annotated[
        float | None,
        typer.Option(help="Share of usual studies that it may call foreign; default 0.05.", show_default=False),
    ] = None,
    skip_bad: SkipBad = False,
    cache: Cache = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Measure a run on its test studies, with intervals, subgroups and each modality's share."""
    from mailnet.evaluation.reliability import Wanted

    chosen = calibration or ("temperature" if calibrate else None)
    wanted = Wanted(chosen, conformal or None, score, "class" if by_class else None, abstain_at_risk)
    rate = 0.05 if foreign and false_alarms is None else false_alarms
    split = split or ("test" if study is None else "all")
    result = run_evaluation(run, study, split=split, out=out, data_root=data_root, skip_bad=skip_bad, cache=cache,
                            device=device, absent=absent, wanted=wanted, gaps=subgroups,
                            uncertainty=draws if uncertainty else None, foreign=rate)  # fmt: skip
    if subgroups and not result["gaps"]:
        say("No gaps: the study names no subgroups; add 'subgroups: [COLUMN, ...]' to its study.yaml")
    if as_json:
        print_json(result)
    else:
        print_evaluation(result)


def run_evaluation(run: Path, study: Path | None = None, **options: Any) -> dict[str, Any]:
    """Evaluate and say which studies were left out; arguments as of ``mailnet.evaluation.evaluate``."""
    from mailnet.evaluation import evaluate as evaluate_run

    result = evaluate_run(run, study=study, **options)
    if bad := result["data"]["bad"]:
        say(f"{bad} studies that cannot be read or have no modality were left out; 'mailnet check' lists them")
    return result


def print_evaluation(result: Mapping[str, Any]) -> None:
    """Print the main numbers of an evaluation as tables."""
    from mailnet.cli.summary import reliability_lines, summary_tables

    for title, columns, rows in summary_tables(result):
        print_table(title, columns, rows)
    for line in reliability_lines(result):
        print(line)
