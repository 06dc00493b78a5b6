"""What commands print: text for people on stderr and stdout, one JSON object on stdout for programs."""

from __future__ import annotations

import errno
import json
import re
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import requires
from typing import Any

from mailnet.errors import MailnetError

# Where a module is named other than its package.
PACKAGES = {
    "sklearn": "scikit-learn",
    "multipart": "python-multipart",
    "mlflow": "mlflow-skinny",
    "markupsafe": "jinja2",  # comes with it
}


def print_json(value: Any) -> None:
    """Print one JSON value on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout; the first column and those without a heading left, the others right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=any(columns))
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number and column else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    # Piped output keeps its full width: a narrow default would break numbers apart.
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    if title:  # of the table itself it would be folded to the table's width
        console.print(title, style="italic", markup=False)
    console.print(table)


def say(text: str) -> None:
    """Print a line for people on stderr, so that stdout stays clean for data."""
    print(text, file=sys.stderr, flush=True)


def report_error(error: Exception, *, as_json: bool, debug: bool) -> int:
    """Print an error; return exit status 2 for what the user can mend, 1 for a fault of ours."""
    if debug:
        traceback.print_exception(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        error = MailnetError("the disk is full", file=error.filename, remedy="Free space and give the command again")
    if isinstance(error, ModuleNotFoundError) and (extra := _extra_of(error.name or "")):
        remedy = f"pip install 'mailnet[{extra}]'"
        error = MailnetError(f"this needs the package '{error.name}', which is not installed", remedy=remedy)
    if isinstance(error, MailnetError):
        if as_json:
            print_json({"error": {"type": type(error).__name__, **error.as_dict()}})
        say(f"Error: {error}")
        return 2
    if as_json:
        print_json({"error": {"type": type(error).__name__, "message": str(error)}})
    say(f"Error: {type(error).__name__}: {error}")
    if not debug:
        say("This looks like a fault of mailnet. Give the command again with --debug for the traceback.")
    return 1


def _extra_of(module: str) -> str | None:
    """Return the first extra of mailnet that installs a module, None where it belongs to none."""
    top = module.partition(".")[0]
    package = PACKAGES.get(top, top).replace("_", "-")
    for line in requires("mailnet") or []:
        found = re.match(r"([\w.-]+).*extra == [\"'](\w+)[\"']", line)
        if found and top != "mailnet" and found[1].lower().replace("_", "-") == package:
            return found[2]
    return None
