"""``mailnet tune``: a search for settings of training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mailnet.cli.options import Cache, DataRoot, Json, Overrides, SkipBad, StudyPath
from mailnet.cli.output import print_json, print_table, say


def tune(
    study: StudyPath,
    out: Annotated[Path, typer.Option(help="Folder of the search.", show_default=False)],
    space: Annotated[
        Path | None,
        typer.Option(help="YAML: key -> {choose: [..]} or {low, high, log}; default a small one.", show_default=False),
    ] = None,
    trials: Annotated[int, typer.Option(help="As many in all.")] = 20,
    minutes: Annotated[float | None, typer.Option(help="Begin no trial after these.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Of the search.")] = 0,
    data_root: DataRoot = None,
    overrides: Overrides = None,
    skip_bad: SkipBad = False,
    cache: Cache = None,
    as_json: Json = False,
) -> None:
    """Search for settings that do best on validation studies; given again after a stop, it goes on where it was."""
    from mailnet.training.tuning import read_space
    from mailnet.training.tuning import tune as search

    result = search(
        study, out, space=None if space is None else read_space(space), trials=trials,
        seconds=None if minutes is None else 60 * minutes, overrides=overrides or (), seed=seed, data_root=data_root,
        skip_bad=skip_bad, cache=cache, say=say,
    )  # fmt: skip
    if as_json:
        print_json(result)
        return
    good = sorted((row for row in result["trials"] if row["value"] is not None),
                  key=lambda row: row["value"], reverse=result["metric"] != "loss")[:10]  # fmt: skip
    keys = list(result["space"])
    rows = [
        [
            str(row["number"]),
            *(_text(row["settings"][key]) for key in keys),
            f"{row['value']:.4f}",
            f"{row['seconds']:.0f}",
        ]
        for row in good
    ]
    names = [key.rpartition(".")[2] for key in keys]
    print_table(f"{len(result['trials'])} trials, the best first", ["trial", *names, result["metric"], "s"], rows)
    say(f"Next: mailnet train {out / 'best.yaml'} --out {out / 'best'}")


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
