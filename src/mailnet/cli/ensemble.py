"""``mailnet ensemble``: several runs as one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mailnet.cli.options import Json
from mailnet.cli.output import print_json, say


def ensemble(
    runs: Annotated[list[Path], typer.Argument(help="Runs of one study, two or more.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the ensemble, a run as any other.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Make one model of several runs of a study: its answer is the mean of theirs, its uncertainty their spread."""
    from mailnet.training.ensemble import make_ensemble

    folder = make_ensemble(runs, out)
    if as_json:
        print_json({"run": str(folder), "members": [str(run) for run in runs]})
        return
    print(folder)
    say(f"Next: mailnet evaluate {folder} --calibrate --uncertainty")
