"""What the catalogue says of a data set."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from mailnet.data.catalog.pattern import fields_of
from mailnet.data.config import ModalityConfig, Pivot, SplitConfig, StudyConfig, TaskConfig
from mailnet.data.config.base import Section

TABLE = "studies.csv"


class Item(Section):
    """Files or tables of the download that belong together; see ``pattern`` for how names are written.

    The first item, and all others of its ``name``, give a row a file or a row a line. Later files are added as a column
    ``name`` to the rows with the same fields, later tables to the rows with the same ``key``.

    Args:
        name: The column that holds the paths; of a table, its name.
        path: The names of the files.
        holds: What they are.
        columns: Of a table, its columns and the values in them. Only these are kept.
        key: Column by which a later item is added: {column of the rows: column or field of the item} where they differ.
            Files are added by the fields that the rows have too where it is left out.
        values: Columns that are the same for all rows of the item.
        skip: Lines above the names of its columns.
        header: False for a list, a name a line, without a line of names.
        number: Column that gets the number of the table's line, from 0.
        optional: True where one may do without it.
    """

    name: str
    path: str
    holds: str
    columns: dict[str, str] = {}
    key: dict[str, str] = {}
    values: dict[str, str] = {}
    skip: int = 0
    header: bool = True
    number: str | None = None
    optional: bool = False

    @field_validator("key", mode="before")
    @classmethod
    def _same_name(cls, value: Any) -> Any:
        return {value: value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _paths_have_their_own_column(self) -> Item:
        if self.name in fields_of(self.path):
            raise ValueError(f"item '{self.name}' has a field of the same name in '{self.path}'")
        return self

    @property
    def kind(self) -> str:
        """``table``, ``npz`` or ``files``."""
        return "table" if self.columns else "npz" if self.path.endswith(".npz") else "files"


class Task(TaskConfig):
    """A task and how many rows the publisher counts of each class."""

    counts: dict[str, int] = {}


class Preparation(Section):
    """How the rows become studies.

    Args:
        function: Name of a function in ``functions`` that reads what no pattern can, in place of the layout.
        only: Column -> values of the rows that are kept.
        drop: Column -> values of the rows that are left out.
        rename: Column -> {what its cells are, written as in a table's ``columns``: what they become}; the first that
            fits counts.
        one_hot: New column -> columns of which it gets the name of the one that is marked, by 1 or any word but 0.
        join: New column -> columns whose texts are joined to its own, as for a patient's number within a hospital.
        first: New column -> columns of which it gets the first text that is not empty.
        groups: Columns that say whose row it is; rows that share one of them stay on one side.
        identical: Columns of images; rows with the same picture stay on one side.
        blocks: Column of a running number: within each class, the first rows become training, the last test.
    """

    function: str | None = None
    only: dict[str, list[str]] = {}
    drop: dict[str, list[str]] = {}
    rename: dict[str, dict[str, str]] = {}
    one_hot: dict[str, list[str]] = {}
    join: dict[str, list[str]] = {}
    first: dict[str, list[str]] = {}
    groups: list[str] = []
    identical: list[str] = []
    blocks: str | None = None


class Entry(Section):
    """A data set: the facts, what its download looks like, and the study that it becomes."""

    name: str
    title: str
    modality: str
    licence: str
    citation: str
    doi: str | None = None
    url: str
    size: str
    images: int | None = None
    patients: int | None = None
    rows: int | None = None
    splits: dict[str, int] = {}
    group_key: str
    traps: list[str] = Field(min_length=1)
    verified: bool
    verified_on: str
    sizes: list[int] = []

    layout: list[Item] = Field(min_length=1)
    prepare: Preparation = Preparation()
    id: str | None = None
    pivot: Pivot | None = None
    missing: list[str] = []
    subgroups: list[str] = []
    split: SplitConfig = SplitConfig()
    modalities: dict[str, ModalityConfig] = Field(min_length=1)
    tasks: dict[str, Task] = Field(min_length=1)

    @field_validator("modalities", mode="before")
    @classmethod
    def _image_is_default(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        return {name: {"kind": "image"} | (section or {}) for name, section in value.items()}

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z0-9_]+", value):
            raise ValueError("a name has small letters, digits and '_' only")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Entry:
        StudyConfig.model_validate(self.study({"table": TABLE}))
        for name, task in self.tasks.items():
            if unknown := set(task.counts) - set(task.class_values):
                raise ValueError(f"task '{name}' counts what is no class: {sorted(unknown)}")
        if not self.prepare.function:
            for item in self.layout[1:]:
                if item.name != self.layout[0].name and item.kind == "table" and not item.key:
                    raise ValueError(f"table '{item.name}' is not the first: say its 'key'")
        return self

    @property
    def row_items(self) -> list[Item]:
        """The items that give the rows."""
        return [item for item in self.layout if item.name == self.layout[0].name]

    @property
    def attached(self) -> dict[str, list[Item]]:
        """The other items, by name."""
        names = dict.fromkeys(item.name for item in self.layout if item.name != self.layout[0].name)
        return {name: [item for item in self.layout if item.name == name] for name in names}

    def study(self, source: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys of the study.yaml.

        Args:
            source: The manifest: its table and, where rows are left out, ``where``.
        """
        manifest = dict(source)
        if self.missing:
            manifest["missing"] = list(self.missing)
        if self.pivot is not None:
            manifest["pivot"] = self.pivot.model_dump()
        plain = {
            name: section.model_dump(mode="json", exclude_unset=True) | {"kind": section.kind}
            for name, section in self.modalities.items()
        }
        tasks = {
            name: t.model_dump(mode="json", exclude_unset=True, exclude={"counts"}) for name, t in self.tasks.items()
        }
        values: dict[str, Any] = {
            "name": self.name,
            "description": self.title,
            "source": self.url,
            "manifest": manifest,
            "id": self.id,
            "group": "group",
            "split": self.split.model_dump(mode="json", exclude_unset=True) or {"train": 0.7, "val": 0.1, "test": 0.2},
            "subgroups": self.subgroups,
            "modalities": plain,
            "tasks": tasks,
        }
        return {key: value for key, value in values.items() if value not in (None, [], {})}
