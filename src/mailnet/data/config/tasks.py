"""The questions that are asked of a study."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mailnet.data.config.base import Scalar, Section
from mailnet.data.values import canonical
from mailnet.specs import TaskSpec


class TaskConfig(Section):
    """A question. ``classes`` lists the label values in order, or maps class names to the value(s) that mean them.

    For ``multilabel`` each class is a column of 0 and 1: list the column names, or map class names to columns.
    An empty cell is a missing label.
    """

    kind: Literal["binary", "multiclass", "multilabel", "ordinal"] = "multiclass"
    column: str | None = None
    classes: list[Scalar] | dict[str, Scalar | list[Scalar]]
    weight: float = Field(1.0, gt=0)

    @property
    def class_values(self) -> dict[str, list[str]]:
        """Class name -> label values, as text."""
        if isinstance(self.classes, list):
            return {str(value): [str(value)] for value in self.classes}
        return {
            name: [str(v) for v in (value if isinstance(value, list) else [value])]
            for name, value in self.classes.items()
        }

    @model_validator(mode="after")
    def _classes(self) -> TaskConfig:
        TaskSpec("task", tuple(self.class_values), self.kind)
        if self.kind == "multilabel" and any(len(columns) != 1 for columns in self.class_values.values()):
            raise ValueError("a multilabel class needs exactly one column")
        values = [canonical(value) for several in self.class_values.values() for value in several]
        if len(set(values)) != len(values):
            raise ValueError("a label value belongs to two classes")
        return self
