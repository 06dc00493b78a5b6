"""``study.yaml``: what the data are, what is asked of them, and how to train; unknown keys are errors."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mailnet.data.values import canonical
from mailnet.errors import ConfigError
from mailnet.specs import TaskSpec

Scalar = str | int | float | bool
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class _Loader(yaml.SafeLoader):
    """YAML whose only truth values are true and false: ``classes: [no, yes]`` are words."""


# PyYAML reads YAML 1.1, where yes, no, on and off are truth values too; in a list of labels that is a trap.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class Section(BaseModel):
    """A part of the file: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Pivot(Section):
    """Joins the rows of one patient: rows with equal ``index`` become one study.

    A column ``c`` becomes ``c.<value>`` for each value of the column ``columns``; a column that is the same in every
    row of its study also keeps its plain name.
    """

    index: str
    columns: str


class ManifestSource(Section):
    """A table of studies, CSV or Parquet, a file or a member of a zip (``set.zip!labels.csv``), below the data root.

    Paths in it are relative to the table, so inside the zip where the table is. Order: ``where``, ``pivot``, then
    ``columns`` ({name used here: name in the table}); with ``columns`` only the named ones are kept. Cells that hold a
    value of ``missing`` ("not available") count as empty.
    """

    table: str
    where: dict[str, Scalar | list[Scalar]] = {}
    pivot: Pivot | None = None
    columns: dict[str, str] = {}
    missing: list[Scalar] = []


class SplitConfig(Section):
    """Either a column that says train, val or test, or fractions that divide the groups, stratified and seeded."""

    column: str | None = None
    values: dict[Split, Scalar | list[Scalar]] = {}
    train: float = Field(0.7, ge=0, le=1)
    val: float = Field(0.1, ge=0, le=1)
    test: float = Field(0.2, ge=0, le=1)
    seed: int = 0

    @model_validator(mode="after")
    def _fractions(self) -> SplitConfig:
        if abs(self.train + self.val + self.test - 1) > 1e-6:
            raise ValueError(f"train + val + test must be 1, got {self.train + self.val + self.test:g}")
        if self.values and self.column is None:
            raise ValueError("'values' says how to read a column: name it in 'column'")
        return self


class ImageConfig(Section):
    """A 2-D image per study.

    ``range`` is the lowest and highest value that the file's numbers can have, mapped to 0 and 1; left out, it is the
    whole range of the file's integer type. A value outside is an error. ``convert`` allows colour to grey and grey to
    colour; otherwise a file with another number of channels is an error.
    """

    kind: Literal["image"] = "image"
    column: str | None = None
    channels: Literal[1, 3] = 1
    size: tuple[int, int] = (128, 128)
    resize: Literal["letterbox", "stretch", "crop"] = "letterbox"
    range: tuple[float, float] | None = None
    convert: bool = False
    augment: Literal["auto", "none", "slice", "radiograph", "ultrasound", "microscopy", "photo"] = "auto"

    @field_validator("size", mode="before")
    @classmethod
    def _square(cls, value: Any) -> Any:
        if isinstance(value, int):
            return (value, value)
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"is a number of pixels or [height, width], got {value!r}")
        return value

    @model_validator(mode="after")
    def _sane(self) -> ImageConfig:
        if min(self.size) < 8:
            raise ValueError(f"size must be at least 8 pixels a side, got {list(self.size)}")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"range must rise, got {list(self.range)}")
        return self


class TabularConfig(Section):
    """Columns of the manifest as one modality.

    Numeric columns are scaled by training statistics; a missing value is imputed and flagged, unless the column stands
    in ``required``. Categorical columns allow values that training has not seen.
    """

    kind: Literal["tabular"]
    numeric: list[str] = []
    categorical: list[str] = []
    required: list[str] = []

    @model_validator(mode="after")
    def _columns(self) -> TabularConfig:
        columns = self.numeric + self.categorical
        if not columns:
            raise ValueError("a tabular modality needs 'numeric' or 'categorical' columns")
        if len(set(columns)) != len(columns):
            raise ValueError("a column is named twice")
        if unknown := set(self.required) - set(columns):
            raise ValueError(f"'required' names columns that are not listed: {', '.join(sorted(unknown))}")
        return self


ModalityConfig = Annotated[ImageConfig | TabularConfig, Field(discriminator="kind")]


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


class ModelConfig(Section):
    """The network: a name of ``mailnet.list_models()`` and its options."""

    name: str = "mail"
    options: dict[str, Any] = {}


class TrainConfig(Section):
    """How to train. ``preset: published`` is Adam 1e-4 on a plateau as the paper did; other keys still override it.

    ``batch_size`` counts the studies of one optimizer step over all processes; ``accumulate`` works through them in so
    many parts, to need less memory. ``modality_dropout`` is the chance that a modality of a study is hidden or, in the
    unpaired regime, that companions are taken apart and trained alone; left out, 0.1 and 0.5.
    """

    preset: Literal["default", "published"] = "default"
    seed: int = 0
    epochs: int = Field(30, ge=1)
    batch_size: int = Field(64, ge=1)
    accumulate: int = Field(1, ge=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    gradient_clip: float | None = Field(1.0, gt=0)
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"
    warmup: float = Field(0.1, ge=0, lt=1)
    plateau_patience: int = Field(70, ge=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    balance: Literal["none", "weights", "sampler"] = "none"
    modality_dropout: float | None = Field(None, ge=0, le=1)
    ema: float | None = Field(0.99, gt=0, lt=1)
    monitor: Literal["balanced_accuracy", "accuracy", "macro_f1", "macro_auroc", "loss"] = "balanced_accuracy"
    patience: int | None = Field(None, ge=1)
    augment: bool = True
    checkpoint_minutes: float = Field(1.0, ge=0)
    device: str = "auto"

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("preset") == "published":
            published = {
                "epochs": 200,
                "batch_size": 32,
                "optimizer": "adam",
                "learning_rate": 1e-4,
                "weight_decay": 0.0,
                "gradient_clip": None,
                "schedule": "plateau",
                "warmup": 0.0,
                "ema": None,
                "modality_dropout": 0.0,
                "balance": "sampler",
                "monitor": "loss",
                "patience": 80,
            }
            return published | values
        return values


class EvaluationConfig(Section):
    """How to evaluate: draws of the bootstrap, bins of the calibration error, seed."""

    bootstrap: int = Field(1000, ge=0)
    bins: int = Field(15, ge=2)
    seed: int = 0


class StudyConfig(Section):
    """The whole ``study.yaml``."""

    name: str
    description: str = ""
    source: str = ""
    data_root: str = "."
    manifest: list[ManifestSource]
    regime: Literal["paired", "unpaired"] = "paired"
    id: str | None = None
    group: str | None = None
    split: SplitConfig = SplitConfig()
    subgroups: list[str] = []
    modalities: dict[str, ModalityConfig] = Field(min_length=1)
    tasks: dict[str, TaskConfig] = Field(min_length=1)
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @field_validator("manifest", mode="before")
    @classmethod
    def _sources(cls, value: Any) -> Any:
        several = value if isinstance(value, list) else [value]
        return [{"table": source} if isinstance(source, str) else source for source in several]

    @field_validator("split", mode="before")
    @classmethod
    def _split_column(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value

    @field_validator("modalities", mode="before")
    @classmethod
    def _image_is_default(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: {"kind": "image", **v} if isinstance(v, dict) else {"kind": "image"} if v is None else v
                for k, v in value.items()}  # fmt: skip

    @field_validator("modalities", "tasks")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not NAME.fullmatch(name):
                raise ValueError(f"'{name}' is not a name: use letters, digits, '_' and '-', a letter first")
        return value

    @model_validator(mode="after")
    def _one_meaning_a_column(self) -> StudyConfig:
        tables = [modality for modality in self.modalities.values() if isinstance(modality, TabularConfig)]
        both = {c for table in tables for c in table.numeric} & {c for table in tables for c in table.categorical}
        if both:
            raise ValueError(f"numeric in one modality and categorical in another: {', '.join(sorted(both))}")
        return self

    @property
    def root(self) -> Path:
        """The data root as an absolute path."""
        return Path(self.data_root)


def load_config(path: str | Path, overrides: Sequence[str] = (), data_root: str | Path | None = None) -> StudyConfig:
    """Read a ``study.yaml``.

    Args:
        path: The file.
        overrides: ``a.b=c`` each; the value is read as YAML.
        data_root: Replaces the file's ``data_root``; relative to the working folder. The file's own is relative to
            the file.

    Raises:
        ConfigError: The file is missing or not YAML, or a key or value is wrong; all problems are listed together.
    """
    file = Path(path)
    try:
        values = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ConfigError(
            f"cannot be read ({error.strerror})", file=file, remedy="Write one with 'mailnet init'"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"is not valid YAML ({error})", file=file, remedy="Mend the place named") from error
    if not isinstance(values, dict):
        raise ConfigError("holds no mapping of keys to values", file=file, remedy="Write one with 'mailnet init'")
    for override in overrides:
        _override(values, override)
    if data_root is not None:
        values["data_root"] = str(Path(data_root).resolve())
    else:
        values["data_root"] = str((file.resolve().parent / str(values.get("data_root", "."))).resolve())
    return parse_config(values, file)


def parse_config(values: dict[str, Any], file: str | Path | None = None) -> StudyConfig:
    """Check the values of a study configuration.

    Raises:
        ConfigError: Lists every problem, each with its key and, for an unknown key, the nearest known one.
    """
    try:
        return StudyConfig.model_validate(values)
    except ValidationError as error:
        problems = [_explain(problem) for problem in error.errors(include_url=False)]
        raise ConfigError("; ".join(problems), file=file, remedy="Mend the keys named") from None


def dump_config(config: StudyConfig) -> str:
    """Return the configuration as YAML that ``load_config`` reads back as the same."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override '{override}' is not of the form a.b=c", remedy="For example train.epochs=5")
    *parents, last = key.split(".")
    place = values
    for parent in parents:
        inner = place.setdefault(parent, {})
        if inner is None:
            inner = place[parent] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"override '{override}': '{parent}' holds a value, not keys", remedy="Shorten the key")
        place = inner
    try:
        place[last] = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"override '{override}': the value is not YAML", remedy="Quote it") from error


_SECTIONS = (StudyConfig, ManifestSource, Pivot, SplitConfig, ImageConfig, TabularConfig, TaskConfig, ModelConfig,
             TrainConfig, EvaluationConfig)  # fmt: skip
_KEYS = sorted({key for section in _SECTIONS for key in section.model_fields})
_PLACES: dict[str, type[Section]] = {
    "train": TrainConfig,
    "evaluation": EvaluationConfig,
    "model": ModelConfig,
    "split": SplitConfig,
}


def _explain(problem: Any) -> str:
    # The tag of a discriminated union and positions of single sources are pydantic's, not the file's.
    where = ".".join(str(part) for part in problem["loc"] if part not in ("image", "tabular"))
    if problem["type"] == "extra_forbidden":
        key = str(problem["loc"][-1])
        # A key that exists, but elsewhere: say where.
        for place, section in _PLACES.items():
            if key in section.model_fields:
                return f"'{where}' is not a key (did you mean '{place}.{key}'?)"
        near = difflib.get_close_matches(key, [known for known in _KEYS if known != key], n=1)
        return f"'{where}' is not a key" + (f" (did you mean '{near[0]}'?)" if near else "")
    message = problem["msg"].removeprefix("Value error, ")
    return f"'{where}': {message}" if where else message
