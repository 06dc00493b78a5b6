"""What the pages tell people to type: commands, pieces of Python, and YAML."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/README.md")]
)
TOOLS = ("mailnet", "python", "make", "pip", "curl")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`(?!`)([^`]+)`")


@dataclass(frozen=True)
class Piece:
    """A piece of a page.

    Args:
        page: Path of the page in the project.
        line: Its first line, from 1.
        text: As a person would copy it.
    """

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def words(self) -> list[str]:
        """A command's words as a shell gives them, without the comment."""
        return shlex.split(self.text, comments=True)


def fenced(page: str, language: str) -> list[Piece]:
    """The blocks of a language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Piece(page, text.count("\n", 0, found.start()) + 2, found[2])
        for found in FENCE.finditer(text)
        if found[1] == language
    ]


def commands(page: str) -> list[Piece]:
    """The commands that stand indented, each on lines of its own; those that go on after a backslash are joined."""
    return [
        Piece(page, number, line.strip())
        for number, line in _lines(page)
        if line.startswith("    ") and line.split()[0] in TOOLS
    ]


def mentions(page: str) -> list[Piece]:
    """The commands within sentences and tables, which may leave out what they need."""
    text = FENCE.sub(lambda found: "\n" * found[0].count("\n"), (ROOT / page).read_text(encoding="utf-8"))
    return [
        Piece(page, text.count("\n", 0, found.start()) + 1, " ".join(found[1].split()))
        for found in SPAN.finditer(text)
        if found[1].split()[:1] == ["mailnet"] and len(found[1].split()) > 1
    ]


def _lines(page: str) -> Iterator[tuple[int, str]]:
    text = (ROOT / page).read_text(encoding="utf-8")
    text = FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)
    whole = ""
    for number, line in enumerate(text.splitlines(), 1):
        whole = whole + line.strip() if whole else line
        if whole.endswith("\\"):
            whole = whole[:-1]
            continue
        if whole.strip():
            yield number, whole
        whole = ""


def dedented(piece: Piece) -> str:
    """A piece of Python, at the lines that it has in its page, so that a traceback names them."""
    return "\n" * (piece.line - 1) + textwrap.dedent(piece.text)
