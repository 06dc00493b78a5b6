"""Which images of a study are which modality of a model, and which columns of a table a header holds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailnet.data.config import ImageConfig, ModalityConfig, PixelConfig, TabularConfig
from mailnet.data.dicom.files import guarded
from mailnet.data.dicom.header import text
from mailnet.data.dicom.series import check_select, selected
from mailnet.data.values import nearest
from mailnet.errors import ConfigError, DataError

Tags = Mapping[str, str]  # DICOM keyword -> pattern
_YEARS = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}


@dataclass(frozen=True)
class Rules:
    """How a study in DICOM becomes what a model reads.

    Args:
        modalities: Image or volume -> the tags that an image of it has; with none, every image.
        columns: Column of a table -> DICOM keyword whose value it takes.
        complete: Refuse a study that lacks one of the modalities.
    """

    modalities: Mapping[str, Tags]
    columns: Mapping[str, str] = field(default_factory=dict)
    complete: bool = False

    @guarded
    def of(self, header: Any) -> tuple[str, ...]:
        """Return the modalities that an image is of."""
        return tuple(name for name, tags in self.modalities.items() if selected(header, tags))

    @guarded
    def values(self, header: Any) -> dict[str, Any]:
        """Return column -> value, those alone that a header says; an age in years."""
        found: dict[str, Any] = {}
        for column, keyword in self.columns.items():
            value = text(header, keyword)
            if age := re.fullmatch(r"(\d{3})([DWMY])", value) if keyword == "PatientAge" else None:
                found[column] = round(int(age[1]) / _YEARS[age[2]], 3)
            elif value:
                found[column] = value
        return found


def rules_for(
    preprocessing: Mapping[str, ModalityConfig],
    match: Sequence[str] = (),
    file: str | Path | None = None,
    *,
    complete: bool = False,
) -> Rules:
    """Return the rules for a model: those given, else the modality's own ``select``, else the only series.

    Args:
        preprocessing: The bundle's modalities.
        match: ``NAME: KEY=PATTERN, KEY=PATTERN`` each, or ``COLUMN = KEY`` for a column of a table.
        file: YAML with ``modalities``, name -> tags, and ``columns``, column -> keyword; ``match`` goes before it.
        complete: As of ``Rules``.

    Raises:
        ConfigError: A rule cannot be understood, a modality has none and is not the only one, or the model reads what
            no DICOM study can hold.
    """
    tags, columns = _read(Path(file)) if file is not None else ({}, {})
    for one in match:
        name, colon, rest = one.partition(":")
        if colon:
            pairs = [pair.partition("=") for pair in rest.split(",")]
            if not all(key.strip() and equals and value.strip() for key, equals, value in pairs):
                raise ConfigError(f"'{one}' is no rule", remedy="Write it as 'left: SeriesDescription=*L*'")
            tags[name.strip()] = {key.strip(): value.strip() for key, _, value in pairs}
        else:
            column, equals, keyword = one.partition("=")
            if not equals:
                raise ConfigError(f"'{one}' is no rule", remedy="Write it as 'left: SeriesDescription=*L*'")
            columns[column.strip()] = keyword.strip()
    images = {name: section for name, section in preprocessing.items() if isinstance(section, PixelConfig)}
    _check(images, preprocessing, tags, columns)
    chosen: dict[str, Tags] = {}
    for name, section in images.items():
        chosen[name] = tags.get(name) or section.select
        if not chosen[name] and len(images) > 1:
            raise ConfigError(
                f"it is not said which series is '{name}'",
                modality=name,
                remedy=f"Give --match '{name}: SeriesDescription=*{name}*' or another tag",
            )
    return Rules(chosen, columns, complete)


def unselected(preprocessing: Mapping[str, ModalityConfig]) -> dict[str, ModalityConfig]:
    """Return the modalities without their ``select``: of a study in DICOM the rules choose, which may be others."""
    return {
        name: section.model_copy(update={"select": {}}) if isinstance(section, PixelConfig) else section
        for name, section in preprocessing.items()
    }


def _read(file: Path) -> tuple[dict[str, Tags], dict[str, str]]:
    import yaml

    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", file=file, remedy="Check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"is not valid YAML ({error})", file=file, remedy="Mend the place named") from error
    form = "It holds 'modalities: {NAME: {KEY: PATTERN}}' and 'columns: {COLUMN: KEY}'"
    if not isinstance(values, dict) or set(values) - {"modalities", "columns"}:
        raise ConfigError("holds no rules", file=file, remedy=form)
    tags, columns = values.get("modalities") or {}, values.get("columns") or {}
    if not (
        isinstance(tags, dict) and isinstance(columns, dict) and all(isinstance(one, dict) for one in tags.values())
    ):
        raise ConfigError("holds no rules", file=file, remedy=form)
    return (
        {str(name): {str(key): str(value) for key, value in one.items()} for name, one in tags.items()},
        {str(column): str(keyword) for column, keyword in columns.items()},
    )


def _check(
    images: Mapping[str, PixelConfig],
    preprocessing: Mapping[str, ModalityConfig],
    tags: Mapping[str, Tags],
    columns: Mapping[str, str],
) -> None:
    from pydicom.datadict import keyword_dict

    if not images:
        raise ConfigError("the model reads no image", remedy="Use 'mailnet predict' for tables")
    for name, section in images.items():
        if isinstance(section, ImageConfig) and section.slice == "largest":
            raise ConfigError(
                "'slice: largest' needs a mask of each image, and no rule says which object of a study that is",
                modality=name,
                remedy="Use 'mailnet predict' or 'mailnet serve' with the mask beside the image",
            )
    for name, one in tags.items():
        if name not in images:
            remedy = f"Its images are {', '.join(images)}"
            raise ConfigError(f"the model has no image '{name}'", remedy=nearest(name, images) or remedy)
        try:
            check_select(one)
        except DataError as error:
            raise ConfigError(error.message, modality=name, remedy=error.remedy) from None
    known = {
        column
        for section in preprocessing.values()
        if isinstance(section, TabularConfig)
        for column in (*section.numeric, *section.categorical)
    }
    for column, keyword in columns.items():
        if column not in known:
            raise ConfigError(f"the model has no column '{column}'", remedy=nearest(column, sorted(known)))
        if keyword not in keyword_dict:
            raise ConfigError(f"'{keyword}' is no DICOM keyword", remedy=nearest(keyword, sorted(keyword_dict)))
