"""The tables of a study, and how its rows are divided."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from mailnet.data.config.base import Scalar, Section, Split


def _one_or_several(value: Any) -> Any:
    # Of a union pydantic names what is wrong once for each member, and none of these sentences would help.
    inner = value["not"] if isinstance(value, dict) and list(value) == ["not"] else value
    if not all(isinstance(one, Scalar) for one in (inner if isinstance(inner, list) else [inner])):
        raise ValueError(
            f'is {value!r}, but must be a value, several as [a, b], or {{not: value or values}}; "" is an empty cell, '
            "and a date stands in quotes"
        )
    return value


# What a cell is compared with: (one of) the values, or with ``{not: ...}`` none of them; "" is an empty cell.
Condition = Annotated[
    Scalar | list[Scalar] | dict[Literal["not"], Scalar | list[Scalar]], BeforeValidator(_one_or_several)
]


class Pivot(Section):
    """Joins the rows of one patient: rows with equal ``index`` become one study.

    A column ``c`` becomes ``c.<value>`` for each value of the column ``columns``; a column that is the same in every
    row of its study also keeps its plain name.
    """

    index: str
    columns: str


class Join(Section):
    """A second table whose columns are added to the rows: each row takes the one whose ``key`` is its own ``on``.

    ``key`` is ``on`` where left out. ``transpose`` is for tables with a column a patient and a row a gene, as omics are
    published: the first column then names the new columns, and the header is the key. ``prefix`` begins the names of
    the added columns. A row without a partner has empty cells.
    """

    table: str
    on: str
    key: str | None = None
    transpose: bool = False
    prefix: str = ""


class Build(Section):
    """A column made of others: ``{template: "{file}_pre.jpg"}`` puts the cell of ``file`` in place of ``{file}``.

    The cell is empty where one of these cells is, and where a column of ``unless`` has (one of) its values, or with
    ``{not: ...}`` none of them.
    """

    template: str
    unless: dict[str, Condition] = {}

    @property
    def parts(self) -> list[str]:
        """Text and names of columns in turn, text first and last."""
        return re.split(r"\{([^{}]+)\}", self.template)

    @model_validator(mode="after")
    def _columns(self) -> Build:
        if len(self.parts) == 1:
            raise ValueError(f"'{self.template}' names no column: write it in braces, such as {{file}}")
        return self


class ManifestSource(Section):
    """A table of studies: CSV, Parquet or Excel, a file or a member of a zip (``set.zip!labels.csv``), below the root.

    Paths in it are relative to the table, so inside the zip where the table is. Order: ``where`` (keeps the rows whose
    cells are as each ``Condition`` says), ``pivot``, ``columns`` ({name used here: name in the table}; only the named
    ones are kept), ``build`` ({new column: how}), then ``join``. Cells that hold a value of ``missing`` ("not
    available"), in a joined table too, count as empty.
    """

    table: str
    where: dict[str, Condition] = {}
    pivot: Pivot | None = None
    columns: dict[str, str] = {}
    missing: list[Scalar] = []
    build: dict[str, Build] = {}
    join: list[Join] = []

    @field_validator("build", mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: {"template": part} if isinstance(part, str) else part for name, part in value.items()}

    @field_validator("join", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    def own_name(self, column: str) -> str | None:
        """Return what the table itself calls a column of the study; None where it is made, or may be joined."""
        if self.pivot is not None or column in self.build:
            return None
        if self.columns:
            return self.columns.get(column)
        return None if self.join else column


class SplitConfig(Section):
    """Either a column that says train, val or test, or fractions that divide the groups, stratified and seeded."""

    column: str | None = None
    values: dict[Split, Scalar | list[Scalar]] = {}
    train: float = Field(0.7, ge=0, le=1)
    val: float = Field(0.1, ge=0, le=1)
    test: float = Field(0.2, ge=0, le=1)
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _column(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fractions(self) -> SplitConfig:
        if abs(self.train + self.val + self.test - 1) > 1e-6:
            raise ValueError(f"train + val + test must be 1, got {self.train + self.val + self.test:g}")
        if self.values and self.column is None:
            raise ValueError("'values' says how to read a column: name it in 'column'")
        return self
