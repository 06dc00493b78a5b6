"""What one types into study.yaml to leave rows out."""

from __future__ import annotations

import json
import re

from mailnet.data.config import ManifestSource, StudyConfig

# Of these YAML makes no other value than the word, wherever they stand.
_PLAIN = re.compile(r"(?!(?:true|false|null)$)[A-Za-z_][A-Za-z0-9_./!-]*", re.IGNORECASE)


def where_filled(*columns: str) -> str:
    """Return the ``where`` that keeps the rows with a value in every one of a table's columns.

    >>> where_filled("ct", "CT: path")
    'where: {ct: {not: ""}, "CT: path": {not: ""}}'
    """
    filled = ", ".join(f'{_typed(column)}: {{not: ""}}' for column in columns)
    return f"where: {{{filled}}}"


def keep_filled(config: StudyConfig, column: str) -> str | None:
    """Return what keeps the rows of a study with a value in a column; None where no ``where`` alone can.

    Args:
        config: The study.
        column: As it is called there, which may not be its name in the table.
    """
    names = {source.own_name(column) for source in config.manifest}
    name = names.pop() if len(names) == 1 else None
    if name is None:
        return None
    first, *others = config.manifest
    if first == ManifestSource(table=first.table) and not others:  # often written as the table's name alone
        return f"manifest: {{table: {_typed(first.table)}, {where_filled(name)}}}"
    return f"{where_filled(name)} in {'every source of ' if others else ''}'manifest'"


def _typed(word: str) -> str:
    return word if _PLAIN.fullmatch(word) else json.dumps(word, ensure_ascii=False)
