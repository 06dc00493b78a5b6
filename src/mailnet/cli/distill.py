"""The command that trains a small network with a large one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mailnet.cli.options import Cache, DataRoot, Json, Overrides, SkipBad
from mailnet.cli.output import print_json, say


def distill(
    teacher: Annotated[Path, typer.Argument(help="The run of the large network.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Run folder of the small one.", show_default=False)],
    width: Annotated[str | None, typer.Option(help="nano, tiny, small or base.")] = "nano",
    network: Annotated[
        str | None, typer.Option(help="Network of the small one; default the teacher's.", show_default=False)
    ] = None,
    data_root: DataRoot = None,
    overrides: Overrides = None,
    skip_bad: SkipBad = False,
    cache: Cache = None,
    as_json: Json = False,
) -> None:
    """Train a small network on a run's study, with the answers and features of the run's network."""
    from mailnet.data.config import load_config
    from mailnet.errors import RunError
    from mailnet.training import train as train_run

    study = teacher / "study.yaml"
    if not study.is_file():
        raise RunError("has no study.yaml", file=teacher, remedy="Give the run, not its bundle")
    learnt = load_config(study)
    # As the teacher was trained, but for what made it another network.
    options = {} if network not in (None, learnt.model.name) else dict(learnt.model.options)
    options |= {"width": width} if width else {}
    options.pop("widths", None)
    chosen = [
        f"model.name={network or learnt.model.name}",
        f"model.options={json.dumps(options)}",
        f"train.distill.teacher={json.dumps(str(teacher.resolve()))}",
        "train.defense=null",
        "train.pretrain=null",
    ]
    monitor = ["train.monitor=balanced_accuracy"] if learnt.train.defense is not None else []
    config = load_config(study, [*chosen, *monitor, *(overrides or ())], data_root)
    result = train_run(config, out, skip_bad=skip_bad, cache=cache)
    if as_json:
        print_json({"run": str(result.run), "best": result.best})
        return
    print(result.run)
    say(f"Next: mailnet evaluate {result.run}, and mailnet export {result.run}")
