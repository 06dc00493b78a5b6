"""``mailnet push`` and ``mailnet pull``: the only commands that use a network, and only to the Hub they name."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from mailnet.cli.options import Json
from mailnet.cli.output import print_json, print_table, say

Repository = Annotated[str, typer.Argument(help="ORG/NAME on the Hugging Face Hub.", show_default=False)]
Revision = Annotated[str, typer.Option(help="Branch; to fetch also a tag or a commit.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(help="File with a token of the Hub; default that of 'hf auth login'.", show_default=False),
]


def push(
    model: Annotated[Path, typer.Argument(help="A run, a bundle, or an export in ONNX.", show_default=False)],
    repository: Repository,
    private: Annotated[
        bool, typer.Option("--private", help="Show it to your organisation alone; one that is public is refused.")
    ] = False,
    revision: Revision = "main",
    token_file: TokenFile = None,
    yes: Annotated[bool, typer.Option("--yes", help="Send without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Send a model to the Hugging Face Hub: its bundle's files, and nothing of a study; says first what it sends."""
    from mailnet.deploy import hub
    from mailnet.errors import ConfigError

    folder, parcel = hub.plan_push(model, repository, revision)
    token = _token(token_file)
    if not as_json:
        shown = "private" if private else "for everybody to see, unless it is private there already"
        title = f"From {folder} to {repository}, {revision}, {shown}"
        print_table(title, ["", "bytes"], [[name, f"{size:,}"] for name, size in parcel.files.items()])
        say("README.md, the model card, holds figures of the evaluation and what its owner added: read it through.")
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise ConfigError("nothing was sent: nobody can be asked here", remedy="Give --yes to send what is listed")
        if not typer.confirm("Send these files?"):
            say("Nothing was sent.")
            raise typer.Exit(1)
    address, hidden = hub.push(folder, parcel, private=private, token=token)
    if as_json:
        print_json({**parcel.as_dict(), "private": hidden, "commit": address})
    else:
        print(address)


def pull(
    repository: Repository,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the model; new or empty.")],
    revision: Revision = "main",
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Fetch a model from the Hugging Face Hub: known names alone, no code, checked and loaded before it appears."""
    from mailnet.deploy import hub

    parcel, left = hub.pull(repository, out, revision, token=_token(token_file))
    if as_json:
        print_json({**parcel.as_dict(), "folder": str(out), "left": left})
        return
    print(out)
    say(f"{len(parcel.files)} files of commit {parcel.revision}; left there: {', '.join(left) or 'nothing'}")
    say(f"Read its model card first: {out / 'README.md'}. Then: mailnet predict {out} new.csv")


def _token(file: Path | None) -> str | None:
    from mailnet.errors import ConfigError

    if file is None:
        return None
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read ({error})", file=file, remedy="Name the file with the token") from error
    # Of what cannot stand in a header the client's error would show all.
    if not re.fullmatch(r"[!-~]+", token):
        raise ConfigError("holds no token", file=file, remedy="Write the token alone into it")
    return token
