"""Text of a card: whatever a study calls its things stays text, and is neither Markdown nor HTML."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, TypeGuard

LONGEST = 200  # characters of a name
TEXT = 2000  # of a description
_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~!$@])")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_LINK = re.compile(r"https?://[\w./?=%+~#:-]+", re.ASCII)
_TURNS = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}  # change the direction of writing


def clean(text: Any, longest: int = LONGEST) -> str:
    r"""Return text in one line, without control characters.

    >>> clean("a\n---\tb\x00c")
    'a --- b c'
    """
    shown = "".join(" " if unicodedata.category(c) == "Cc" or c in _TURNS else c for c in str(text))
    line = " ".join(shown.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def plain(text: Any, longest: int = LONGEST) -> str:
    r"""Return text that Markdown shows as it is, also within a cell of a table.

    >>> plain("<b>x</b> | *y* http://z")
    '&lt;b&gt;x&lt;/b&gt; \\| \\*y\\* http:\\//z'
    """
    shown = "".join(_HTML.get(c, c) for c in _SPECIAL.sub(r"\\\1", clean(text, longest)))
    # Bare addresses would become links.
    return shown.replace("://", r":\//").replace("www.", r"www\.")


def prose(text: str) -> str:
    """Return a description as Markdown: plain text in which web addresses are links and paths of files are left out.

    >>> prose("See https://x.org/a_b. Files: /home/me/data")
    'See <https://x.org/a_b>. Files: (a path)'
    """
    words = []
    for word in clean(text, TEXT).split(" "):
        core = word.rstrip(".,;)")
        end = word[len(core) :]
        inner = core.strip("'\"(<>")
        if _LINK.fullmatch(core):
            words.append(f"<{core}>{end}")
        elif len(inner) > 1 and (PurePosixPath(inner).is_absolute() or PureWindowsPath(inner).is_absolute()):
            words.append(f"(a path){end}")
        else:
            words.append(plain(word, TEXT))
    return " ".join(words)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table, the first column to the left, the others to the right; cells are Markdown already.

    >>> table(["a", "b"], [["x", "1"]])
    ['| a | b |', '|:--|--:|', '| x | 1 |', '']
    """
    lines = [head, *rows]
    shown = [f"| {' | '.join(cells)} |" for cells in lines]
    return [shown[0], f"|:--|{'--:|' * (len(head) - 1)}", *shown[1:], ""]


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a number that can be shown."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def value_of(raw: Any) -> float | None:
    """Return the number of an estimate as JSON holds it; None where it could not be computed."""
    value = raw.get("value") if isinstance(raw, Mapping) else raw
    return float(value) if is_number(value) else None


def number(raw: Any) -> str:
    """Return the number of an estimate as text.

    >>> number({"value": 0.67994, "low": 0.6}), number(None)
    ('0.680', '-')
    """
    value = value_of(raw)
    return "-" if value is None else f"{value:.3f}"


def interval(raw: Any) -> str:
    """Return the interval of an estimate as text.

    >>> interval({"value": 0.68, "low": 0.61, "high": 0.74}), interval(0.68)
    ('0.610 to 0.740', '-')
    """
    if not isinstance(raw, Mapping) or not is_number(raw.get("low")) or not is_number(raw.get("high")):
        return "-"
    return f"{raw['low']:.3f} to {raw['high']:.3f}"


def percent(value: Any) -> str:
    """Return a share as text.

    >>> percent(0.7217), percent(None)
    ('72.2%', '-')
    """
    return f"{100 * value:.1f}%" if is_number(value) else "-"


def listing(words: Sequence[str]) -> str:
    """Return words joined as in a sentence.

    >>> listing(["ct", "mri", "pet"])
    'ct, mri and pet'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else list(words))
