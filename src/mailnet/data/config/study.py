"""The whole ``study.yaml``, and reading and writing it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from mailnet.data.config.base import Section
from mailnet.data.config.defense import DefenseConfig
from mailnet.data.config.manifest import Build, Join, ManifestSource, Pivot, SplitConfig
from mailnet.data.config.modalities import ImageConfig, ModalityConfig, TabularConfig, VolumeConfig, Window
from mailnet.data.config.tasks import TaskConfig
from mailnet.data.config.training import EvaluationConfig, ModelConfig, PretrainConfig, TrainConfig
from mailnet.errors import ConfigError

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class _Loader(yaml.SafeLoader):
    """YAML whose only truth values are true and false: ``classes: [no, yes]`` are words."""


# PyYAML reads YAML 1.1, where yes, no, on and off are truth values too; in a list of labels that is a trap.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


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

    @model_validator(mode="after")
    def _no_answer_among_the_inputs(self) -> StudyConfig:
        for name, section in self.modalities.items():
            columns = {*section.numeric, *section.categorical} if isinstance(section, TabularConfig) else set()
            for task, asked in self.tasks.items():
                answers = {column for values in asked.class_values.values() for column in values}
                answers = answers if asked.kind == "multilabel" else {asked.column or task}
                if shared := columns & answers:
                    raise ValueError(f"modality '{name}' reads '{min(shared)}', the answer of the task '{task}'")
        return self

    @model_validator(mode="after")
    def _defended_modalities(self) -> StudyConfig:
        if self.train.defense is not None:
            self.train.defense.lengths(self.modalities)
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
        inside = file / "study.yaml"
        remedy = f"Give {inside}" if inside.is_file() else "Write one with 'mailnet init'"
        raise ConfigError(f"cannot be read ({error.strerror})", file=file, remedy=remedy) from error
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
    for depth, parent in enumerate(parents):
        inner = place.setdefault(parent, {})
        if inner is None:
            inner = place[parent] = {}
        if isinstance(inner, str) and parents[: depth + 1] == ["train", "defense"]:  # its name alone
            inner = place[parent] = {"name": inner}
        if not isinstance(inner, dict):
            raise ConfigError(f"override '{override}': '{parent}' holds a value, not keys", remedy="Shorten the key")
        place = inner
    try:
        place[last] = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"override '{override}': the value is not YAML", remedy="Quote it") from error


_SECTIONS = (StudyConfig, ManifestSource, Pivot, Build, Join, SplitConfig, ImageConfig, VolumeConfig, Window,
             TabularConfig, TaskConfig, ModelConfig, TrainConfig, PretrainConfig, DefenseConfig,
             EvaluationConfig)  # fmt: skip
_KEYS = sorted({key for section in _SECTIONS for key in section.model_fields})
_PLACES: dict[str, type[Section]] = {
    "train": TrainConfig,
    "evaluation": EvaluationConfig,
    "model": ModelConfig,
    "split": SplitConfig,
    "train.pretrain": PretrainConfig,
    "train.defense": DefenseConfig,
}


def _explain(problem: Any) -> str:
    # The kind of a modality and the names of a union's members are pydantic's, not the file's.
    path = problem["loc"]
    parts = [str(part) for k, part in enumerate(path) if not (k == 2 and path[0] == "modalities")]
    where = ".".join(part for part in parts if not re.match(r"Window$|ManifestSource$|constrained-|\w+\[", part))
    if problem["type"] == "extra_forbidden":
        key = str(problem["loc"][-1])
        # A key that exists, but elsewhere: say where.
        for place, section in _PLACES.items():
            if key in section.model_fields:
                return f"'{where}' is not a key (did you mean '{place}.{key}'?)"
        near = difflib.get_close_matches(key, [known for known in _KEYS if known != key], n=1)
        return f"'{where}' is not a key" + (f" (did you mean '{near[0]}'?)" if near else "")
    if problem["type"] == "missing" and isinstance(path[-1], int):
        return f"'{where.rpartition('.')[0]}': needs {path[-1] + 1} numbers or more"
    if problem["type"] == "missing":
        return f"'{where}' is missing"
    if problem["type"] in ("dict_type", "model_type"):
        return f"'{where}': keys and values are needed, such as {{key: value}}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"'{where}': {message}" if where else message
