"""Studies in memory: dicts as a list, a MONAI ``Dataset`` or any torch data set gives them, arrays in place of files.

Nothing of MONAI is needed: a data set is what has a length and gives an item by its number, a transform what takes a
dict and returns one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np
import pandas as pd

from mailnet.data.cache import ShardedImages
from mailnet.data.config import ImageConfig, PixelConfig, StudyConfig, TabularConfig
from mailnet.data.preprocess import prepare as prepare_scan
from mailnet.data.preprocess import prepare_array
from mailnet.data.tensors import is_tensor, scan_of_tensor
from mailnet.data.values import cell_text
from mailnet.errors import ConfigError, DataError

Prepare = Callable[[Any], Any]
LISTED = 10
SHUFFLERS = {"OneOf", "SomeOf", "RandomOrder"}  # of MONAI: what they are made of need not be random


class Items(Protocol):
    """A data set: it has a length and gives an item by its number, as those of torch and MONAI."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: Any, /) -> Any: ...


@dataclass(frozen=True)
class MemoryStudies:
    """N studies whose images are in memory.

    Args:
        table: A row a study, a column a key that holds one value; of an image a name made of what it shows, so that a
            study that comes twice is known.
        images: Modality -> name -> the image as the network sees it, (C, H, W) or (C, D, H, W) of uint8 or uint16; of
            modalities that are given as paths none.
    """

    table: pd.DataFrame
    images: dict[str, dict[str, np.ndarray]]

    def with_column(self, name: str, values: Any) -> MemoryStudies:
        """Return the studies with a column (N,) added or replaced."""
        return replace(self, table=self.table.assign(**{name: values}))

    def arranged(self, modality: str, paths: Iterable[str], section: PixelConfig) -> ShardedImages:
        """Return the images of a modality (N, C, ...), as ``ImageCache.images`` does, by the paths of a manifest."""
        held = self.images[modality]
        kinds = [np.dtype(np.uint8), np.dtype(np.uint16)]
        names: list[list[str]] = [[name for name, image in held.items() if image.dtype == kind] for kind in kinds]
        places = {name: (k, slot) for k, several in enumerate(names) for slot, name in enumerate(several)}
        item = (section.inputs, *section.size)
        shards = [
            np.stack([held[name] for name in several]) if several else np.zeros((0, *item), kind)
            for kind, several in zip(kinds, names, strict=True)
        ]
        found = np.array([places.get(os.path.basename(path), (-1, 0)) for path in paths], dtype=np.int64).reshape(-1, 2)
        used = [k for k, shard in enumerate(shards) if len(shard)]
        numbers = np.array([*(used.index(k) if k in used else -1 for k in range(len(kinds))), -1])
        return ShardedImages([shards[k] for k in used], numbers[found[:, 0]], found[:, 1], item)


def iterate_items(source: Any, prepare: Prepare | None = None) -> Iterator[dict[str, Any]]:
    """Yield the studies of a source, one at a time.

    Args:
        source: Dicts, a data set of dicts, or a DataFrame, of which an empty cell is no key.
        prepare: Applied to each, such as a MONAI ``Compose`` of dictionary transforms.

    Raises:
        ConfigError: ``prepare``, or the transform of a data set, draws random numbers.
        DataError: An item is no dict, or cannot be made; says which.
    """
    transforms = [("'prepare'", prepare)]
    inner = source
    while inner is not None:  # a subset of torch's holds the data set that it is of
        transforms.append(("the data set's transform", getattr(inner, "transform", None)))
        inner = None if isinstance(inner, pd.DataFrame) else getattr(inner, "dataset", None)
    for name, transform in transforms:
        if random := random_parts(transform):
            raise ConfigError(
                f"{name} draws random numbers ({', '.join(random[:LISTED])}), and each study is read once",
                remedy="Give what is random as 'augment', which training applies anew in every epoch",
            )
    for number, item in enumerate(_items(source), start=1):
        if not isinstance(item, Mapping):
            raise DataError(f"is a {type(item).__name__}, no dict", study=f"row {number}", remedy="Give a dict a study")
        if prepare is None:
            yield dict(item)
            continue
        try:
            prepared = prepare(dict(item))
        except Exception as error:  # whatever a user's own code raises
            reason = f"'prepare' failed ({type(error).__name__}: {' '.join(str(error).split())[:300]})"
            raise DataError(reason, study=f"row {number}", remedy="Mend the study or the transform") from error
        if not isinstance(prepared, Mapping):
            message = f"'prepare' made a {type(prepared).__name__} of it, no dict"
            raise DataError(message, study=f"row {number}", remedy="Leave out what makes several of one")
        yield dict(prepared)


def read_cells(source: Any, prepare: Prepare | None = None) -> tuple[int, dict[str, list[Any]]]:
    """Return the number of studies of a source and key -> cells, None where a study lacks it; as ``iterate_items``."""
    rows = list(iterate_items(source, prepare))
    keys = dict.fromkeys(key for row in rows for key in row)
    return len(rows), {str(key): [plain_cell(row.get(key)) for row in rows] for key in keys}


def random_parts(transform: Any) -> list[str]:
    """Return the names of the parts of a transform that draw random numbers, as MONAI marks them."""
    parts = getattr(transform, "transforms", None)
    if SHUFFLERS & {kind.__name__ for kind in type(transform).__mro__}:
        return [type(transform).__name__]
    if isinstance(parts, (list, tuple)):
        return [name for part in parts for name in random_parts(part)]
    random = hasattr(transform, "randomize") and hasattr(transform, "set_random_state")
    return [type(transform).__name__] if random else []


def read_studies(source: Any, config: StudyConfig, prepare: Prepare | None = None) -> MemoryStudies:
    """Return studies in memory as ``load_study`` takes them.

    Args:
        source: As of ``iterate_items``. Keys are the columns of the config; an image is a path, a tensor (C, H, W) or
            (C, D, H, W), see ``scan_of_tensor``, or an array as ``prepare_array`` takes it.
        config: The study.
        prepare: As of ``iterate_items``.

    Raises:
        ConfigError: As ``iterate_items``.
        DataError: An item cannot be used, or a modality is given as paths here and as arrays there.
    """
    sections = {name: section for name, section in config.modalities.items() if isinstance(section, PixelConfig)}
    pictures = {section.column or name for name, section in sections.items()}
    needed = _needed(config)
    rows: list[dict[str, Any]] = []
    images: dict[str, dict[str, np.ndarray]] = {name: {} for name in sections}
    paths: set[str] = set()
    for number, item in enumerate(iterate_items(source, prepare), start=1):
        study = cell_text(plain_cell(item.get(config.id or "id"))) or f"row {number}"
        cells: dict[str, Any] = {}
        for key, value in item.items():
            cell = plain_cell(value)
            if cell is None or (key not in pictures and _is_array(cell)):
                if value is not None and key in needed | pictures:
                    kind = f"shape {list(value.shape)}" if hasattr(value, "shape") else f"type {type(value).__name__}"
                    remedy = "Give one number or word"
                    raise DataError(f"'{key}' holds no single value (its {kind})", study=study, remedy=remedy)
                continue
            cells[str(key)] = cell
        for name, section in sections.items():
            column = section.column or name
            if _is_array(cells.get(column)):
                image = _prepared(cells[column], section, study, name)
                cells[column] = _name_of(image)
                images[name][cells[column]] = image
            elif cell_text(cells.get(column)):
                paths.add(name)
        rows.append(cells)
    if mixed := [name for name in sections if name in paths and images[name]]:
        remedy = "Give all studies of it one or the other"
        raise DataError("is a path in some studies and an array in others", modality=mixed[0], remedy=remedy)
    if not rows:
        raise DataError("there is no study", remedy="Give a dict a study")
    columns = dict.fromkeys([*(key for row in rows for key in row), *pictures])
    table = pd.DataFrame({column: [row.get(column) for row in rows] for column in columns})
    return MemoryStudies(table, {name: held for name, held in images.items() if held})


def plain_cell(value: Any) -> Any:
    """Return what a key holds as one cell: an array or tensor of one value as that value, None of what is no cell."""
    if is_tensor(value) or isinstance(value, np.ndarray):
        return value.item() if value.ndim == 0 or tuple(value.shape) == (1,) else value
    return None if isinstance(value, (Mapping, list, tuple, set)) else value


def holds_arrays(table: pd.DataFrame) -> bool:
    """Return whether cells of a table are arrays or tensors."""
    return any(
        _is_array(cell) for column in table for cell in table[column].to_numpy() if table[column].dtype == object
    )


def _items(source: Any) -> Iterable[Any]:
    if isinstance(source, Mapping):
        return [source]
    if isinstance(source, pd.DataFrame):
        rows = source.to_dict("records")
        return [{str(key): v for key, v in row.items() if _is_array(v) or cell_text(plain_cell(v))} for row in rows]
    if isinstance(source, Iterable) and not isinstance(source, (str, bytes)):
        return source
    if hasattr(source, "__getitem__") and hasattr(source, "__len__") and not isinstance(source, (str, bytes)):
        return (source[number] for number in range(len(source)))
    raise ConfigError(f"a {type(source).__name__} is no source of studies", remedy="Give dicts, or a data set of them")


def _is_array(value: Any) -> bool:
    return (is_tensor(value) or isinstance(value, np.ndarray)) and value.ndim > 0


def _needed(config: StudyConfig) -> set[str]:
    columns = {config.id, config.group, config.split.column, *config.subgroups}
    for section in config.modalities.values():
        columns |= {*section.numeric, *section.categorical} if isinstance(section, TabularConfig) else set()
    for name, task in config.tasks.items():
        several = {column for values in task.class_values.values() for column in values}
        columns |= several if task.kind == "multilabel" else {task.column or name}
    return {column for column in columns if column is not None}


def _prepared(value: Any, section: PixelConfig, study: str, modality: str) -> np.ndarray:
    try:
        if isinstance(section, ImageConfig) and section.slice in ("all", "largest"):
            remedy = "Take the planes in 'prepare', each a study, and leave 'slice' out"
            raise DataError(f"'slice: {section.slice}' is for files, and this is an array", remedy=remedy)
        return prepare_scan(scan_of_tensor(value, section), section) if is_tensor(value) else prepare_array(
            value, section
        )  # fmt: skip
    except DataError as error:
        raise DataError(error.message, study=study, modality=modality, remedy=error.remedy) from error


def _name_of(image: np.ndarray) -> str:
    digest = blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16, person=str(image.dtype).encode())
    return f"memory-{digest.hexdigest()}"
