"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StudyPath = Annotated[Path, typer.Argument(help="The study.yaml.", show_default=False)]
RunPath = Annotated[Path, typer.Argument(help="A run that 'mailnet train' wrote.", show_default=False)]
DataRoot = Annotated[Path | None, typer.Option(help="Folder that the study's paths start from.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key, e.g. train.epochs=5; may be repeated.", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
SkipBad = Annotated[
    bool,
    typer.Option("--skip-bad", help="Leave studies out that cannot be read or have no modality, and list them."),
]
Cache = Annotated[Path | None, typer.Option(help="Folder of decoded images.", show_default=False)]
ShareOption = Annotated[
    str | None,
    typer.Option(
        "--share", help="I/N: the part of process I of N, I from 0; they share the folder.", show_default=False
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
