"""The command line: ``mailnet COMMAND``. Rooms load when a command runs, so that ``--help`` answers at once."""

from mailnet.cli.app import main

__all__ = ["main"]
