"""Cells of tables as text, compared as people read them: "2", 2 and 2.0 are one value."""

from __future__ import annotations

import difflib
import fnmatch
import math
import re
from collections.abc import Iterable
from typing import Any

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")

# What programs write for a number that is absent, in lower case.
ABSENT = ("", "nan", "na", "n/a", "none", "null")


def cell_text(value: Any) -> str:
    """Return a cell as text: an absent value is empty, a whole float has no decimal point.

    >>> cell_text(3.0), cell_text(None), cell_text(" a ")
    ('3', '', 'a')
    """
    if type(value) is not str and hasattr(value, "item"):  # most cells are text, and millions of them are asked
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    text = str(value).strip()
    # The absent values of pandas, which this file does without.
    return "" if text in ("<NA>", "NaT") else text


def is_no_number(text: str) -> bool:
    """Return whether a cell says that its number is absent.

    >>> is_no_number(""), is_no_number("N/A"), is_no_number("0")
    (True, True, False)
    """
    return text.lower() in ABSENT


def canonical(value: Any) -> str:
    """Return the text by which values are compared: numbers by value, truth values in lower case.

    >>> canonical("2.0") == canonical(2) == canonical("02")
    True
    >>> canonical("4b"), canonical(True)
    ('4b', 'true')
    """
    text = cell_text(value)
    if text.lower() in ("true", "false"):
        return text.lower()
    if not NUMBER.fullmatch(text):
        return text
    try:
        return str(int(text))
    except ValueError:
        number = float(text)
        return text if math.isinf(number) else cell_text(number)


def expand_columns(patterns: Iterable[str], columns: Iterable[str]) -> list[str]:
    """Return the columns that names and patterns stand for, each once, in the order of the patterns, then the columns.

    A name that is a column means that column, whatever characters it has. What matches nothing stays as it is, for
    whoever looks it up to report.

    Args:
        patterns: Names, or patterns with ``*``, ``?`` or ``[...]``; capitals matter.
        columns: The columns that there are.

    >>> expand_columns(["age", "gene_*", "sex"], ["age", "gene_a", "gene_b"])
    ['age', 'gene_a', 'gene_b', 'sex']
    """
    known = list(columns)
    names = set(known)
    found: dict[str, None] = {}
    for pattern in patterns:
        if pattern in names or not any(character in pattern for character in "*?["):
            found[pattern] = None
            continue
        matches = re.compile(fnmatch.translate(pattern)).match
        found |= dict.fromkeys([column for column in known if matches(column)] or [pattern])
    return list(found)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'?" for the known name nearest to ``name``, or the known names, or nothing.

    >>> nearest("labl", ["label", "age"])
    "Did you mean 'label'?"
    """
    names = [str(other) for other in known]
    # A pivoted column lost its plain name and is found by what it begins with.
    near = [other for other in names if other.startswith(f"{name}.")] or difflib.get_close_matches(name, names, n=1)
    if near:
        return f"Did you mean '{near[0]}'?"
    if not names:
        return ""
    return f"There are {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}"
