"""``foreign.json`` and ``foreign.safetensors`` of a bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mailnet.bundle.foreign import Foreign
from mailnet.bundle.foreign_images import Distance, ForeignImages
from mailnet.bundle.foreign_pair import ForeignPair
from mailnet.bundle.foreign_table import ForeignTable
from mailnet.data.table import TableState
from mailnet.errors import RunError
from mailnet.files import read_part, replacing, write_json
from mailnet.specs import ModalitySpec
from mailnet.trust.alarm import Alarm
from mailnet.trust.checks import ImageChecks
from mailnet.trust.foreign import Mahalanobis, foreign_score
from mailnet.trust.pairs import PairScore
from mailnet.trust.plain import read_count, read_fields, read_number

FILE, ARRAYS, FORMAT = "foreign.json", "foreign.safetensors", 1


def write_foreign(folder: Path, foreign: Foreign) -> None:
    """Write it into a bundle.

    The JSON, written last, holds the digest of the arrays, so that halves of two writings are told.

    Raises:
        RunError: The folder cannot be written.
    """
    arrays: dict[str, np.ndarray] = {}
    values: dict[str, Any] = {}
    for name, one in foreign.modalities.items():
        if isinstance(one, ForeignTable):
            values[name] = {"alarm": one.alarm.as_dict()}
            arrays |= {f"{name}.low": one.low, f"{name}.high": one.high}
            continue
        values[name] = {"checks": one.checks.as_dict(), "images": one.images, "layers": list(one.layers)}
        for kind, distance in one.distances.items():
            values[name][kind] = {"score": distance.score.as_dict(), "alarm": distance.alarm.as_dict()}
            arrays |= {f"{name}.{kind}.{key}": array for key, array in distance.score.arrays().items()}
    pairs = []
    for number, pair in enumerate(foreign.pairs):
        pairs.append({"first": pair.first, "second": pair.second, "told": pair.told, "alarm": pair.alarm.as_dict()})
        arrays |= {f"pair {number}.{key}": array for key, array in pair.score.arrays().items()}
    data = save({key: np.ascontiguousarray(array, dtype=np.float32) for key, array in arrays.items()})
    with replacing(folder / ARRAYS) as temporary:
        temporary.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    values = {"rate": foreign.rate, "arrays": digest, "modalities": values, "pairs": pairs}
    write_json(folder / FILE, {"format": FORMAT, **values})


def read_foreign(
    folder: Path, modalities: Mapping[str, ModalitySpec], tables: Mapping[str, TableState]
) -> Foreign | None:
    """Read it from a bundle; None where nothing has been fitted.

    Args:
        folder: The bundle.
        modalities: The model's modalities.
        tables: State of its tables.

    Raises:
        RunError: It is damaged, of another model, or written by a newer mailnet.
    """
    path = folder / FILE
    values = read_part(path, FORMAT)
    if values is None:
        return None
    try:
        data = (folder / ARRAYS).read_bytes()
        if hashlib.sha256(data).hexdigest() != values["arrays"]:
            raise ValueError(f"{ARRAYS} is not the file that was written with it")
        arrays = load(data)
        read = {name: _read(name, one, arrays, modalities[name]) for name, one in values["modalities"].items()}
        used = {name: tables[name] for name, one in read.items() if isinstance(one, ForeignTable)}
        several = values.get("pairs", ())  # none in files of the first kind
        pairs = tuple(_read_pair(number, one, arrays, read) for number, one in enumerate(several))
        return Foreign(read, read_number(values["rate"], "rate", 0, 1), used, pairs)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        remedy = "Fit it again with 'mailnet evaluate RUN --foreign', or delete the file"
        raise RunError(f"cannot be understood ({error})", file=path, remedy=remedy) from error


def _read(name: str, values: Any, arrays: Mapping[str, np.ndarray], spec: ModalitySpec) -> ForeignImages | ForeignTable:
    if spec.kind == "tabular":
        low, high = arrays[f"{name}.low"], arrays[f"{name}.high"]
        if low.shape != (spec.channels,) or high.shape != low.shape or not (low <= high).all():
            raise ValueError(f"'{name}': ranges of {low.shape}, {high.shape} features, not {spec.channels}")
        return ForeignTable(low, high, Alarm.from_dict(read_fields(values, name, ("alarm",))["alarm"]))
    kinds = ("picture", "features") if "features" in values else ("picture",)
    read_fields(values, name, ("checks", "images", "layers", *kinds))
    layers = tuple(read_count(place, "layers") for place in values["layers"])
    if bool(layers) != ("features" in kinds):
        raise ValueError(f"'{name}': features need layers that give them")
    distances = {}
    for kind in kinds:
        one, start = read_fields(values[kind], kind, ("score", "alarm")), f"{name}.{kind}."
        own = {key.removeprefix(start): array for key, array in arrays.items() if key.startswith(start)}
        score = foreign_score(own, one["score"])
        if not isinstance(score, Mahalanobis):
            raise ValueError(f"'{name}': {kind} is no Mahalanobis distance")
        distances[kind] = Distance(score, Alarm.from_dict(one["alarm"]))
    checks, images = ImageChecks.from_dict(values["checks"]), read_count(values["images"], "images")
    return ForeignImages(checks, distances, layers, images)


def _read_pair(
    number: int, values: Any, arrays: Mapping[str, np.ndarray], modalities: Mapping[str, Any]
) -> ForeignPair:
    one, start = read_fields(values, "pair", ("first", "second", "told", "alarm")), f"pair {number}."
    own = {key.removeprefix(start): array for key, array in arrays.items() if key.startswith(start)}
    score = PairScore.from_arrays(own)
    for name, centre in ((one["first"], score.centre), (one["second"], score.other_centre)):
        known = modalities[name]
        if not isinstance(known, ForeignImages) or len(centre) != len(known.distances["picture"].score.centre):
            raise ValueError(f"a pair of '{name}', whose pictures do not fit it")
    return ForeignPair(
        one["first"], one["second"], score, Alarm.from_dict(one["alarm"]), read_number(one["told"], "told", 0, 1)
    )
