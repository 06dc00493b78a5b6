"""``mailnet predict``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mailnet.cli.options import DataRoot, Device, Json, ShareOption, SkipBad
from mailnet.cli.output import print_json, say
from mailnet.cli.starting import loading

if TYPE_CHECKING:
    from mailnet.bundle import StudyPredictor


def predict(
    model: Annotated[Path, typer.Argument(help="A run or a bundle.", show_default=False)],
    manifest: Annotated[
        Path,
        typer.Argument(help="CSV, Parquet or Excel with the study's columns, or a study.yaml.", show_default=False),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="CSV or Parquet file, with --parts a folder; default stdout as CSV.", show_default=False),
    ] = None,
    parts: Annotated[
        int | None,
        typer.Option(
            help="Rows of a part: --out is a folder of Parquet files that several processes may fill, and that goes "
            "on where it was.",
            min=1,
            show_default=False,
        ),
    ] = None,
    share: ShareOption = None,
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
    from mailnet.errors import ConfigError
    from mailnet.files import replacing

    if parts is not None:
        _predict_parts(
            model, manifest, out, parts, share, without or [], draws if uncertainty else None, data_root, skip_bad,
            device, as_json,
        )  # fmt: skip
        return
    if share is not None:
        raise ConfigError("--share needs --parts", remedy="Say how many rows a part has, for example --parts 4096")
    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise ConfigError("is neither .csv nor .parquet", file=out, remedy="Rename it; JSON goes to stdout with --json")
    predictions = _load(model, device).predict(
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


def _predict_parts(
    model: Path,
    manifest: Path,
    out: Path | None,
    size: int,
    share: str | None,
    without: list[str],
    draws: int | None,
    data_root: Path | None,
    skip_bad: bool,
    device: str,
    as_json: bool,
) -> None:
    from mailnet.bundle.parts import predict_parts
    from mailnet.bundle.requests import read_studies
    from mailnet.bundle.share import parse_share
    from mailnet.errors import ConfigError

    if out is None:
        raise ConfigError("--parts needs a folder for the parts", remedy="Name it with --out")
    if out.suffix in (".csv", ".parquet"):
        raise ConfigError("is a file's name; --parts writes a folder", file=out, remedy="Leave the ending out")
    mine = None if share is None else parse_share(share)
    predictor = _load(model, device)
    table = read_studies(manifest, data_root, predictor.facts.id_column)
    done = predict_parts(
        predictor, table, out, model=_digest(model), size=size,
        share=mine, without=without, skip_bad=skip_bad,
        draws=draws, say=say,
    )  # fmt: skip
    say(f"{done.there} of {done.parts} parts of {len(table)} rows are in {out}, {done.made} made now")
    if done.bad:
        say(f"{done.bad} studies were left out, see _bad-*.json there")
    if as_json:
        print_json({"out": str(out), "rows": len(table), **asdict(done)})


def _load(model: Path, device: str) -> StudyPredictor:
    with loading():
        from mailnet.deploy.runtime import load

        return load(model, device=device)


def _digest(model: Path) -> str:
    from mailnet.bundle import find_bundle
    from mailnet.bundle.parts import digest_model
    from mailnet.deploy.layout import FACTS

    return digest_model(model if (model / FACTS).is_file() else find_bundle(model))
