"""``mailnet watch``."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from mailnet.cli.options import Device, Json
from mailnet.cli.output import print_json, say


def watch(
    bundle: Annotated[Path, typer.Argument(help="A run, a bundle or an exported model.", show_default=False)],
    inbox: Annotated[Path, typer.Option("--watch", help="Folder that DICOM files arrive in, also in folders within.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for results, one folder a study.")],
    match: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE",
            help="Which images are which modality, 'left: SeriesDescription=*L*', or which header gives a column of a "
            "table, 'age=PatientAge'; may be repeated. Default the modality's own 'select', else the only series.",
            show_default=False,
        ),
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(
            help="YAML with such rules: modalities: {NAME: {KEY: PATTERN}}, columns: {COLUMN: KEY}.", show_default=False
        ),
    ] = None,
    complete: Annotated[
        bool, typer.Option("--complete", help="Refuse studies that lack one of the model's images.")
    ] = False,
    quiet: Annotated[
        float, typer.Option(min=0, help="Seconds without a change after which a study counts as whole.")
    ] = 10.0,
    heatmap: Annotated[
        str, typer.Option(help="none, sc (over the image, Secondary Capture), pm (values, Parametric Map) or both.")
    ] = "none",
    task: Annotated[
        list[str] | None, typer.Option(help="Task of the heat maps; default all.", show_default=False)
    ] = None,
    method: Annotated[str, typer.Option(help="How heat maps are made, see 'mailnet explain'.")] = "layer_cam",
    clean: Annotated[
        bool, typer.Option("--clean", help="Delete a study's files from the watched folder once it is answered.")
    ] = False,
    once: Annotated[
        bool, typer.Option("--once", help="End when all that lies there is answered or has failed.")
    ] = False,
    dicom_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Also receive by DICOM (C-STORE) on this port, into the watched folder.",
            show_default=False,
        ),
    ] = None,
    dicom_host: Annotated[str, typer.Option(help="Address to receive on.")] = "127.0.0.1",
    ae_title: Annotated[str, typer.Option(help="Our AE title.")] = "MAILNET",
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AE@HOST",
            help="Who may send; needed for other than a loopback address; may be repeated.",
            show_default=False,
        ),
    ] = None,
    max_megabytes: Annotated[int, typer.Option(min=1, help="Largest object that is received.")] = 512,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Answer each DICOM study that arrives in a folder, once, as a Structured Report; ends after the study at hand."""
    import signal
    import threading
    from dataclasses import replace

    from mailnet.deploy.dicom import Wanted, facts_of
    from mailnet.deploy.dicom.answer import answer_with
    from mailnet.deploy.dicom.heat import check_heat
    from mailnet.deploy.dicom.receiver import Receiver
    from mailnet.deploy.dicom.rules import rules_for, unselected
    from mailnet.deploy.dicom.watcher import Watcher
    from mailnet.deploy.runtime import load

    wanted = Wanted(heatmap, tuple(task or ()), method)
    predictor = load(bundle, device)
    chosen = rules_for(predictor.facts.preprocessing, match or (), rules, complete=complete)
    if heatmap != "none":
        check_heat(predictor, wanted.tasks, method)
    predictor.facts = replace(predictor.facts, preprocessing=unselected(predictor.facts.preprocessing))
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    receiver = nullcontext() if dicom_port is None else Receiver(
        inbox, dicom_port, host=dicom_host, title=ae_title, allow=allow or (), max_object=max_megabytes * 2**20, say=say
    )  # fmt: skip
    try:
        with receiver as listening:
            if listening is not None:
                say(f"Receiving as {ae_title} on {dicom_host}:{listening.port}")
            answer = answer_with(predictor, facts_of(predictor, bundle), chosen, wanted)
            watcher = Watcher(inbox, out, chosen, answer, quiet=quiet, clean=clean, say=say)
            try:
                say(f"Watching {inbox}; results go to {out}. Stop with Ctrl-C. For research use; not a medical device.")
                counts = watcher.run(stop, once=once)
            finally:
                watcher.close()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if as_json:
        print_json(counts.as_dict())
    else:
        say(f"Answered {counts.done}, failed {counts.failed}, came late {counts.late}.")
