"""The commands. Each only reads its options, calls one room, and prints what it returns."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from mailnet.cli.distill import distill
from mailnet.cli.ensemble import ensemble
from mailnet.cli.evaluation import evaluate, print_evaluation, run_evaluation
from mailnet.cli.explain import explain
from mailnet.cli.export import export
from mailnet.cli.hub import pull, push
from mailnet.cli.options import Cache, DataRoot, Json, Overrides, RunPath, SkipBad, StudyPath
from mailnet.cli.output import print_json, report_error, say
from mailnet.cli.predict import predict
from mailnet.cli.robustness import attack, certify, corrupt
from mailnet.cli.serve import serve
from mailnet.cli.starting import end_quickly
from mailnet.cli.tune import tune
from mailnet.cli.watch import watch

# What typer exits with on Ctrl-C, as shells have it.
INTERRUPTED = 130

app = typer.Typer(
    name="mailnet",
    help="Multimodal medical image classification. For research use; not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        from mailnet import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")] = False,
) -> None:
    pass


@app.command()
def init(
    source: Annotated[
        Path, typer.Argument(help="A folder of class folders, a CSV, Parquet or Excel table, or an npz.")
    ],
    out: Annotated[Path, typer.Option(help="Folder that study.yaml is written to.")] = Path("."),
    label: Annotated[list[str] | None, typer.Option(help="Column that holds a task's label.")] = None,
    image: Annotated[list[str] | None, typer.Option(help="Column that holds image paths.")] = None,
    group: Annotated[str | None, typer.Option(help="Column that names the patient.")] = None,
    split: Annotated[str | None, typer.Option(help="Column that says train, val or test.")] = None,
    size: Annotated[int | None, typer.Option(help="Pixels a side that images are brought to.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")] = False,
    as_json: Json = False,
) -> None:
    """Write a study.yaml from data as you have them."""
    from mailnet.data.init import init_study

    result = init_study(source, out, labels=label, images=image, group=group, split=split, size=size, force=force)
    if as_json:
        print_json({"study": str(result.study), "notes": result.notes})
        return
    for note in result.notes:
        say(f"- {note}")
    print(result.study)
    say(f"Read it through, then: mailnet check {result.study}")


@app.command()
def check(
    study: StudyPath,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Also write it, naming no study: .html, a page, or .json, which 'mailnet report' shows where it "
            "lies in a run as check.json.",
            show_default=False,
        ),
    ] = None,
    data_root: DataRoot = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Find what is wrong with the data and what leaks; exit status 2 where training would stop, 1 at a leak."""
    from mailnet.cli.check import print_check, write_check
    from mailnet.data.check import check_study
    from mailnet.data.config import load_config
    from mailnet.errors import ConfigError

    if out is not None and out.suffix not in (".html", ".json"):
        raise ConfigError("is neither .html nor .json", file=out, remedy="Rename it")
    config = load_config(study, overrides or (), data_root)
    report = check_study(config)
    if out is not None:
        write_check(config, report, out)
        say(f"Written: {out}")
    if as_json:
        print_json(report.as_dict())
    else:
        print_check(report)
    if report.status:
        raise typer.Exit(report.status)


@app.command()
def train(
    study: StudyPath,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/NAME.", show_default=False)] = None,
    data_root: DataRoot = None,
    overrides: Overrides = None,
    defense: Annotated[
        str | None,
        typer.Option(
            help="Make the network robust: pgd_at, trades, mart, free, fast or gaussian; short for "
            "--set train.defense.name=NAME.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            help="Also log the epochs to tensorboard or mlflow, into the run folder; may be repeated; short for "
            "--set train.track=[NAME].",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    skip_bad: SkipBad = False,
    cache: Cache = None,
    as_json: Json = False,
) -> None:
    """Train a network; given again after a stop, the same command goes on where it was."""
    from mailnet.data.config import load_config
    from mailnet.training import is_first_process
    from mailnet.training import train as train_run

    named = [] if defense is None else [f"train.defense.name={defense}"]
    named += [f"train.track={json.dumps(track)}"] if track else []
    config = load_config(study, [*named, *(overrides or ())], data_root)
    run = out or Path("runs") / config.name
    finished = (run / "bundle").is_dir()
    result = train_run(config, run, skip_bad=skip_bad, cache=cache)
    if not is_first_process():
        return
    if finished:
        say("The run was finished before; nothing was trained. For changed data choose another run folder with --out.")
    if as_json:
        print_json({"run": str(result.run), "best": result.best})
        return
    print(result.run)
    say(f"Next: mailnet report {result.run}{' --skip-bad' if skip_bad else ''}")


app.command()(evaluate)
app.command()(predict)


@app.command()
def report(
    run: RunPath,
    out: Annotated[Path | None, typer.Option(help="HTML file; default report.html in the run.")] = None,
    data_root: DataRoot = None,
    skip_bad: SkipBad = False,
    cache: Cache = None,
    as_json: Json = False,
) -> None:
    """Write the HTML report of a run; evaluates it first where that has not been done."""
    from mailnet.report import write_report

    if not (run / "evaluation.json").is_file():
        run_evaluation(run, data_root=data_root, skip_bad=skip_bad, cache=cache)
    page = write_report(run, out, data_root=data_root, cache=cache)
    if as_json:
        print_json({"report": str(page)})
    else:
        print(page)


@app.command()
def demo(
    study: Annotated[
        Path | None, typer.Option(help="A study.yaml of yours in place of the phantom.", show_default=False)
    ] = None,
    studies: Annotated[
        int | None, typer.Option(help="Of the phantom; default 2000. With fewer it is quicker and learns less.", min=30)
    ] = None,
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/demo"),
    data_root: DataRoot = None,
    overrides: Overrides = None,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """The main job in one command: data, training, evaluation, report."""
    from mailnet.cli.demo import run_demo

    result = run_demo(study, out, studies=studies, data_root=data_root, overrides=overrides or (), skip_bad=skip_bad)
    if as_json:
        print_json(result)
        return
    print_evaluation(result["evaluation"])
    for line in result["notes"]:
        print(line)
    print(f"Report: {result['report']}")


@app.command()
def info(
    path: Annotated[
        Path | None, typer.Argument(help="A run, bundle or study.yaml; without it, this installation.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Describe a run, a bundle, a study, or this installation."""
    from mailnet.cli.info import describe, print_description

    description = describe(path)
    if as_json:
        print_json(description)
    else:
        print_description(description)


@app.command(name="cache")
def manage(
    folder: Annotated[Path | None, typer.Option("--cache", help="Its folder.", show_default=False)] = None,
    limit: Annotated[
        str | None, typer.Option(help="Bytes that it may hold from now on, such as 20GB.", show_default=False)
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Delete all decoded images.")] = False,
    as_json: Json = False,
) -> None:
    """Show, bound or clear the decoded images."""
    from mailnet.cli.cache import manage_cache, print_cache

    result = manage_cache(folder, limit, clear)
    if as_json:
        print_json(result)
    else:
        print_cache(result)


@app.command()
def benchmark(
    suite: Annotated[Path, typer.Argument(help="The suite.yaml.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the cells, tables and plots.", show_default=False)],
    study: Annotated[list[str] | None, typer.Option(help="Run this study only; may be repeated.")] = None,
    network: Annotated[list[str] | None, typer.Option(help="Run this network only; may be repeated.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Run this seed only; may be repeated.")] = None,
    data_root: DataRoot = None,
    cache: Cache = None,
    jobs: Annotated[int, typer.Option(help="Processes that train side by side.", min=1)] = 1,
    rerun: Annotated[bool, typer.Option("--rerun", help="Also run cells again that are stale or failed.")] = False,
    keep_runs: Annotated[bool, typer.Option("--keep-runs", help="Keep the run folders.")] = False,
    tables: Annotated[bool, typer.Option("--tables", help="Only write tables and plots, of the cells there.")] = False,
    cost: Annotated[bool, typer.Option("--cost", help="Measure latency again, also while cells are missing.")] = False,
    as_json: Json = False,
) -> None:
    """Run every network on every study under one protocol; given again, it goes on where it was."""
    from mailnet.cli.benchmark import print_benchmark, run_benchmark

    result = run_benchmark(
        suite, out, studies=study or (), networks=network or (), seeds=seed or (), data_root=data_root, cache=cache,
        jobs=jobs, rerun=rerun, keep_runs=keep_runs, tables=tables, cost=cost,
    )  # fmt: skip
    if as_json:
        print_json(result)
    else:
        print_benchmark(result)
    if not result["complete"]:
        raise typer.Exit(1)


for command in (tune, explain, export, distill, watch, ensemble, attack, corrupt, certify, push, pull):
    app.command()(command)
app.command()(serve)

data_app = typer.Typer(help="The catalogue of public data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")
DataName = Annotated[str, typer.Argument(help="A data set that 'mailnet data list' names.", show_default=False)]


@data_app.command("list")
def data_list(as_json: Json = False) -> None:
    """List the data sets with modality, tasks, size and licence."""
    from mailnet.cli.data import print_list, summary
    from mailnet.data.catalog import list_datasets

    if as_json:
        print_json([summary(entry) for entry in list_datasets()])
    else:
        print_list(list_datasets())


@data_app.command("show")
def data_show(name: DataName, as_json: Json = False) -> None:
    """Say all about a data set: facts, traps, where to get it and what its folder looks like."""
    from mailnet.cli.data import print_entry
    from mailnet.data.catalog import get_dataset

    entry = get_dataset(name)
    if as_json:
        print_json(entry.model_dump(mode="json"))
    else:
        print_entry(entry)


@data_app.command("prepare")
def data_prepare(
    name: DataName,
    source: Annotated[
        Path | None, typer.Option("--from", help="Folder of the download, unpacked.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for study.yaml and studies.csv.")] = Path("."),
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")] = False,
    as_json: Json = False,
) -> None:
    """Make a study of a data set that you have downloaded, with a split that does not leak."""
    from mailnet.cli.data import print_prepared
    from mailnet.data.catalog import prepare_dataset

    result = prepare_dataset(name, source, out, force=force)
    if as_json:
        print_json(result.as_dict())
        return
    print_prepared(result)
    say(f"Next: mailnet check {result.study}")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    end_quickly()
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    # --debug may stand anywhere, where a user adds it: at the end of the command that failed.
    given = [argument for argument in given if argument != "--debug"]
    try:
        app(given, prog_name="mailnet", obj=given)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            say("Stopped. Given again, the same command goes on from what it has kept, if there was anything yet.")
        raise
    except Exception as error:
        sys.exit(report_error(error, as_json="--json" in given, debug=debug))
