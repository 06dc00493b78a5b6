"""``mailnet predict``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mailnet.cli.options import DataRoot, Device, Json, SkipBad
from mailnet.cli.output import print_json, say


def predict(
    model: Annotated[Path, typer.Argument(help="A run or a bundle.", show_default=False)],
    manifest: Annotated[
        Path,
        typer.Argument(help="CSV, Parquet or Excel with the study's columns, or a study.yaml.", show_default=False),
    ],
    out: Annotated[
        Path | None, typer.Option(help="CSV or Parquet file; default stdout as CSV.", show_default=False)
    ] = None,
    without: Annotated[list[str] | None, typer.Option(help="Modality to treat as absent.")] = None,
    uncertainty: Annotated[
        bool,
        typer.Option(
            "--uncertainty",
            help="Also say how unsure the model is, of a random network, one with dropout or an ensemble.",
        ),
    ] = False,
    draws: Annotated[int, typer.Option(help="Draws for --uncertainty; an ensemble has its members.", min=2)] = 20,
    data_root: DataRoot = None,
    skip_bad: SkipBad = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Predict studies of a table; labels are not needed, modalities may be absent."""
    from mailnet.deploy.runtime import load
    from mailnet.errors import ConfigError
    from mailnet.files import replacing

    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise ConfigError("is neither .csv nor .parquet", file=out, remedy="Rename it; JSON goes to stdout with --json")
    predictions = load(model, device=device).predict(
        manifest,
        without=tuple(without or ()),
        skip_bad=skip_bad,
        data_root=data_root,
        draws=draws if uncertainty else None,
    )
    if out is not None:
        frame = predictions.to_frame()
        with replacing(out) as temporary:
            frame.to_parquet(temporary) if out.suffix == ".parquet" else frame.to_csv(temporary, index=False)
        say(f"{len(frame)} studies -> {out}")
    if as_json:
        print_json({"predictions": predictions.as_dicts(), "bad": [problem.as_dict() for problem in predictions.bad]})
    elif out is None:
        predictions.to_frame().to_csv(sys.stdout, index=False)
    for name, absent in predictions.absent.items():
        if absent.all() and name not in (without or ()):
            say(f"Warning: no study has {name}. If that is not meant, name its columns as in training.")
    if foreign := sum(map(bool, predictions.foreign_modalities())):
        say(f"{foreign} of {len(predictions)} studies look foreign, unlike those of training: see 'foreign'")
    if odd := sum(map(bool, predictions.warnings())):
        say(f"Of {odd} of {len(predictions)} studies something is odd: see 'warnings'")
    for problem in predictions.bad:
        say(f"Left out: {problem}")
