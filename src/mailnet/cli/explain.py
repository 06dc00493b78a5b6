"""``mailnet explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mailnet.cli.options import DataRoot, Device, Json
from mailnet.cli.output import print_json, print_table, say


def explain(
    run: Annotated[Path, typer.Argument(help="A run, or with --table a bundle.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder for pictures and explanations.json; default explanations in the run, which its report shows.",
            show_default=False,
        ),
    ] = None,
    study: Annotated[
        list[str] | None,
        typer.Option(help="Identifier of a study; may be repeated. Default some at random.", show_default=False),
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="Other studies: a table or a study.yaml, as for predict.", show_default=False)
    ] = None,
    split: Annotated[str, typer.Option(help="Of which studies are chosen: train, val, test or all.")] = "test",
    number: Annotated[int, typer.Option(min=1, help="How many are chosen.")] = 6,
    task: Annotated[list[str] | None, typer.Option(help="Task to explain; default all.", show_default=False)] = None,
    target: Annotated[
        str | None, typer.Option(help="Class to explain; default the one predicted.", show_default=False)
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="grad_cam, grad_cam_pp, layer_cam, contrast_cam, gradient, integrated_gradients, occlusion, rise, "
            "emcam."
        ),
    ] = "layer_cam",
    seed: Annotated[int, typer.Option(help="Of the choice of studies.")] = 0,
    data_root: DataRoot = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Show which pixels, columns and modalities of studies speak for an answer; pictures show images of patients."""
    from mailnet.explain.run import FOLDER, explain_run

    found = explain_run(run, out, studies=study or (), table=table, split=split, number=number, tasks=task or (),
                        target=target, method=method, data_root=data_root, device=device, seed=seed)  # fmt: skip
    if as_json:
        print_json(found)
        return
    rows = [
        [str(one["row"]), one["task"], one["target"], one["truth"] or "-",
         ", ".join(f"{name} {value:+.2f}" for name, value in (one["modalities"] or one["maps"]).items()),
         str((out or run / FOLDER) / one["picture"])]
        for one in found["entries"]
    ]  # fmt: skip
    worth = "worth of modalities, log-odds"
    print_table(f"Explained by {method}", ["row", "task", "class", "truth", worth, "picture"], rows)
    if out is None:
        say(f"Next: mailnet report {run}")
