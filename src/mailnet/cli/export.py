"""The command that makes files for use of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mailnet.cli.options import Cache, DataRoot, Json, SkipBad
from mailnet.cli.output import print_json, print_table, say


def export(
    run: Annotated[Path, typer.Argument(help="A run; a bundle with --study.", show_default=False)],
    kind: Annotated[str, typer.Option("--format", help="onnx (model.onnx) or torch (model.pt2).")] = "onnx",
    precision: Annotated[
        list[str] | None,
        typer.Option(help="fp32, int8 or bf16; may be repeated. Default fp32.", show_default=False),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            help="What becomes of a random network's numbers: mean (the draws of 'predict', as constants; the "
            "default), off, or sample (drawn anew at each call).",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder; of several precisions one folder each in it. Default export in the run.", show_default=False
        ),
    ] = None,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Also an int8 model that loses over 0.5 points of balanced accuracy.")
    ] = False,
    study: Annotated[
        Path | None,
        typer.Option(help="Another study.yaml whose studies verify and measure the files.", show_default=False),
    ] = None,
    data_root: DataRoot = None,
    skip_bad: SkipBad = False,
    cache: Cache = None,
    as_json: Json = False,
) -> None:
    """Write a model for use elsewhere, check that it answers as the run does, and measure both."""
    from mailnet.deploy.export import export_run

    result = export_run(
        run, out, kind=kind, precisions=tuple(precision or ("fp32",)), noise=noise, study=study, data_root=data_root,
        skip_bad=skip_bad, cache=cache, accept_loss=accept_loss,
    )  # fmt: skip
    if as_json:
        print_json(result)
        return
    print_export(result)
    for folder in result["folders"].values():
        say(f"Written: {folder}")


def print_export(result: Mapping[str, Any]) -> None:
    """Print size and time of each model, what it answers right, and how it was verified."""
    table = result["table"]
    places = [(threads, size) for threads, sizes in table[0]["latency_ms"].items() for size in sizes]
    columns = ["", "MB", *(f"{size} x, {_threads(threads)}" for threads, size in places)]
    rows = [
        [row["model"], f"{row['bytes'] / 1e6:.2f}", *(_time(row, threads, size) for threads, size in places)]
        for row in table
    ]
    print_table("Milliseconds a call, and the ratio to the original", columns, rows)
    for task in table[0]["tasks"]:
        print_table(
            f"{task} ({table[0]['n']} {table[0]['split']} studies)",
            ["", "balanced accuracy", "AUROC", "ECE"],
            [[row["model"], *(_value(value) for value in row["tasks"][task].values())] for row in table],
        )
    for name, checked in result["verification"].items():
        print(f"{name}: {_verified(checked)}")
    if result["noise"] is not None:
        noise = result["noise"]
        of = f" of {noise['draws']} draws, those of 'mailnet predict'" if noise["mode"] == "mean" else ""
        print(f"noise: {noise['mode']}{of}")


def _verified(checked: Mapping[str, Any]) -> str:
    where = f"{checked['studies']} {checked['split']} studies, {' and '.join(map(str, checked['batches']))} at a time"
    if checked["max_difference"] is None:
        return f"means of calls are those of the original's draws ({where})"
    return (
        f"probabilities differ by up to {checked['max_difference']:.2g}, {checked['same_top']:.2%} of answers are the "
        f"same ({where}{', also without each modality' if checked['without'] else ''})"
    )


def _threads(threads: str) -> str:
    return "1 thread" if threads == "1" else f"{threads} threads"


def _time(row: Mapping[str, Any], threads: str, size: str) -> str:
    time = f"{row['latency_ms'][threads][size]:.2f}"
    return time if row["model"] == "original" else f"{time} ({row['ratio'][threads][size]:.2f})"


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
