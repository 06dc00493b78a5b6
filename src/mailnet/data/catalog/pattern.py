"""How entries write the names of files: ``{label:benign|malignant}/{label} ({number:#}).png``.

``{field}`` is any text without ``/``, ``{field:a|b}`` one of these words, ``{:a|b}`` the same without a field. A field
that comes again repeats its text. ``#`` is a number, ``*`` any text without ``/``. Upper and lower case are alike.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NUMBER = r"\d+"
CELL_NUMBER = r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
_FIELD = re.compile(r"\{(\w*)(?::([^{}]*))?\}")


@dataclass(frozen=True)
class Part:
    """A piece of a pattern.

    Args:
        field: Its name; empty for a piece that is no column.
        choices: The words that may stand here, with ``#`` and ``*`` in them.
    """

    field: str
    choices: tuple[str, ...]


def parse(pattern: str) -> list[Part]:
    """Return the pieces of a pattern in order.

    >>> parse("{label:a|b}/*.png")
    [Part(field='label', choices=('a', 'b')), Part(field='', choices=('/*.png',))]
    """
    parts, end = [], 0
    for match in _FIELD.finditer(pattern):
        if literal := pattern[end : match.start()]:
            parts.append(Part("", (literal,)))
        parts.append(Part(match[1], tuple((match[2] or "*").split("|"))))
        end = match.end()
    if literal := pattern[end:]:
        parts.append(Part("", (literal,)))
    return parts


def fields_of(pattern: str) -> list[str]:
    """Return the names of a pattern's fields, each once.

    >>> fields_of("{case}/{case}_{kind:flair|t1}.nii.gz")
    ['case', 'kind']
    """
    return list(dict.fromkeys(part.field for part in parse(pattern) if part.field))


def path_expression(pattern: str) -> re.Pattern[str]:
    """Return the expression for a path below the folder, whatever folders stand before it.

    >>> path_expression("{label:yes|no}/{label}#.jpg").fullmatch("archive/yes/yes12.jpg")["label"]
    'yes'
    """
    text, seen = "(?:.*/)?", set()
    for part in parse(pattern):
        one_of = "|".join(_word(choice, NUMBER) for choice in part.choices)
        if part.field in seen:
            text += f"(?P={part.field})"
        elif part.field:
            # A field alone is at least one character.
            text += f"(?P<{part.field}>{'[^/]+?' if part.choices == ('*',) else one_of})"
            seen.add(part.field)
        else:
            text += f"(?:{one_of})"
    return re.compile(text, re.IGNORECASE)


def cell_expression(values: str) -> re.Pattern[str]:
    """Return the expression for the cells of a column whose values are written as ``a|b|#``.

    >>> bool(cell_expression("HAM_#").fullmatch("HAM_0000118"))
    True
    """
    return re.compile("|".join(_word(choice, CELL_NUMBER) for choice in values.split("|")), re.IGNORECASE)


def _word(choice: str, number: str) -> str:
    marks = {"#": number, "*": "[^/]*" if number == NUMBER else ".*"}
    return "".join(marks.get(piece) or re.escape(piece) for piece in re.split(r"([#*])", choice))
