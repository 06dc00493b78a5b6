"""The answers as OpenAPI describes them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Schema(BaseModel):
    """An answer has these fields and no others."""

    model_config = ConfigDict(extra="forbid")


class Fault(Schema):
    message: str = Field(description="What is wrong, in one line.")
    remedy: str | None = Field(description="What to do about it.")


class ErrorAnswer(Schema):
    error: Fault


class Health(Schema):
    status: Literal["ok"]


class ColumnInfo(Schema):
    name: str
    kind: Literal["numeric", "categorical"]
    categories: list[str] | None = Field(None, description="Values seen in training; others count as unknown.")


class ModalityInfo(Schema):
    kind: Literal["image", "volume", "tabular"]
    channels: int
    size: list[int] | None
    mask: str | None = Field(None, description="Field for the mask by which the plane is chosen.")
    columns: list[ColumnInfo] | None = None


class TaskInfo(Schema):
    kind: Literal["binary", "multiclass", "multilabel", "ordinal"]
    classes: list[str]


class ModelInfo(Schema):
    name: str
    study: str
    modalities: dict[str, ModalityInfo]
    tasks: dict[str, TaskInfo]
    alpha: float | None = Field(description="Chance that a set of answers misses the true one; null without sets.")
    calibrated: bool = Field(description="Whether the probabilities of every task were calibrated on other studies.")
    sets: bool = Field(description="Whether answers have prediction sets.")
    foreign: bool = Field(description="Whether answers say if a study is unlike those of training.")
    noise: dict[str, Any] | None
    explains: list[str]
    research_use_only: Literal[True]


class ModelsAnswer(Schema):
    models: list[ModelInfo]


class LabelSet(Schema):
    present: list[str]
    undecided: list[str]


class TaskAnswer(Schema):
    predicted: str
    probabilities: dict[str, float]
    set: list[str] | LabelSet | None = Field(None, description="Answers that are not ruled out; of labels two lists.")
    answered: bool | None = Field(None, description="Whether the model is sure enough to answer.")
    uncertainty: dict[str, Any] | None = None


class ForeignAnswer(Schema):
    p: float
    alarm: bool
    findings: list[str]


class StudyAnswer(Schema):
    id: str
    absent: list[str]
    foreign: dict[str, ForeignAnswer] | None = Field(None, description="Whether it is unlike the studies of training.")
    warnings: list[str] = Field([], description="What is odd about the study, in words.")
    tasks: dict[str, TaskAnswer]


class PredictAnswer(Schema):
    model: str
    study: StudyAnswer
    alpha: float | None
    without: dict[str, dict[str, dict[str, float]]] | None = Field(
        None, description="With ?without=true: modality left out -> task -> probabilities."
    )
    seconds: float


class MapAnswer(Schema):
    shape: list[int]
    low: float
    high: float
    png: str = Field(description="Base64 of a grey PNG, 0 for low, 255 for high; planes one below the other.")


class ExplainAnswer(Schema):
    model: str
    task: str
    target: str
    method: str
    shares: dict[str, float] = Field(
        description="Modality -> what it adds to the log-odds of the class; empty of a model that needs all."
    )
    maps: dict[str, MapAnswer]


class ImageAnswer(Schema):
    shape: list[int]
    channels: Literal[1, 3]
    bits: Literal[8, 16]
    window: tuple[float, float] = Field(description="The file's values that the network sees as 0 and 1.")
    rescale: tuple[float, float] = Field(description="Slope and intercept that make the file's values of those sent.")
    unit: str
    aspect: float = Field(description="A pixel's height by its width.")
    covers: list[tuple[float, float]] = Field(description="What the network sees, as shares of the picture's axes.")
    values: str = Field(description="Base64 of unsigned little-endian integers, channels last.")


class PreviewAnswer(Schema):
    images: dict[str, ImageAnswer]
