"""``mailnet serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mailnet.cli.options import Device
from mailnet.cli.output import say


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Runs, bundles or exported folders; NAME=PATH names one.", metavar="BUNDLE...", show_default=False
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback need a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port, 0 for any that is free.", min=0, max=65535)] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the token that requests must bring; where one is needed and none is given, one is "
            "made and printed.",
            show_default=False,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Another name of the service, as behind a proxy; may be repeated.", show_default=False),
    ] = None,
    max_upload_mb: Annotated[int, typer.Option(help="Largest request in MB.", min=1)] = 512,
    max_pixels: Annotated[int, typer.Option(help="Largest number of pixels of a plane.", min=1)] = 2**26,
    max_voxels: Annotated[int, typer.Option(help="Largest number of voxels of a file.", min=1)] = 2**28,
    timeout: Annotated[float, typer.Option(help="Seconds for an upload, and for its answer.", min=0.1)] = 60.0,
    queue: Annotated[int, typer.Option(help="Requests at once; others are told to come again.", min=1)] = 256,
    keep: Annotated[
        Path | None,
        typer.Option(help="Folder for a JSON copy of every prediction; default nothing is kept.", show_default=False),
    ] = None,
    device: Device = "auto",
) -> None:
    """Answer over HTTP, with a page for the browser; nothing of a study is kept unless --keep says so."""
    from mailnet.deploy.service.loading import load_models
    from mailnet.deploy.service.server import new_token, read_token
    from mailnet.deploy.service.server import serve as run
    from mailnet.deploy.service.settings import MEGABYTE, Settings, is_loopback

    token = None if token_file is None else read_token(token_file)
    if token is None and not is_loopback(host):
        token = new_token()
        say(f"Token of this start, not shown again: {token}")
    hosts = tuple(name.lower() for name in allow_host or ())
    settings = Settings(host, port, token, hosts, max_upload_mb * MEGABYTE, max_pixels=max_pixels,
                        max_voxels=max_voxels, timeout=timeout, queue=queue, keep=keep)  # fmt: skip
    served = load_models(models, settings, device)
    if keep is not None:
        say(f"Every prediction is kept, as JSON with the study's id and without its images, in {keep}")
    run(served, settings, lambda address: say(f"{address}  ({', '.join(served)})  Stop with Ctrl-C."))
