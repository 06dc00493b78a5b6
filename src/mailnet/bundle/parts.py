"""Predictions of a large table in parts, which any number of processes and machines make together.

A part is some rows of the table and a Parquet file of its own, which gets its name when it is whole. So each study is
in the folder once, whoever is killed when: who comes again makes the parts that are missing. The folder is one Parquet
data set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import mailnet
from mailnet.bundle.asking import StudyPredictor
from mailnet.bundle.requests import StudyTable
from mailnet.bundle.share import Share
from mailnet.data.sources import FOLDER
from mailnet.errors import RunError
from mailnet.files import read_json, read_part, replacing, write_first_json, write_json

FORMAT = 1
PLAN = "_plan.json"  # readers of Parquet data sets pass over names that begin with _
HASHED = 65536  # rows at a time: pandas makes an object of each text


@dataclass(frozen=True)
class Parts:
    """What lies in the folder once a process has done its share.

    Args:
        parts: Parts of the whole table.
        there: Those that are made, by whomever.
        made: Those that this process made.
        bad: Studies that could not be read in the parts of this process, made now or before.
    """

    parts: int
    there: int
    made: int
    bad: int


def predict_parts(
    predictor: StudyPredictor,
    table: StudyTable,
    folder: str | Path,
    *,
    model: str,
    size: int = 4096,
    share: Share | None = None,
    without: Sequence[str] = (),
    skip_bad: bool = False,
    draws: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Parts:
    """Predict the parts of a share that are missing, a Parquet file each.

    Args:
        predictor: The model.
        table: Of ``read_studies``.
        folder: Where the parts are, on a disk that all processes see.
        model: Digest of the model's files: parts of two models do not go into one folder.
        size: Rows of a part.
        share: Of this process; default all parts.
        without: As of ``StudyPredictor.predict``.
        skip_bad: Leave studies that cannot be read out, and list them in ``_bad-NNNNNN.json`` beside their part. A part
            of which none can be read is ``_none-NNNNNN`` and no Parquet file.
        draws: As of ``StudyPredictor.predict``.
        say: Is told what has been done.

    Raises:
        DataError: A study cannot be read; parts before it stay.
        RunError: The folder holds parts of something else, or cannot be written.
        ValueError: A size below 1.
    """
    if size < 1:
        raise ValueError(f"a part needs at least one row, got {size}")
    out = Path(folder)
    parts = -(-len(table) // size)
    width = max(len(str(parts - 1)), 6)
    _begin(out, _plan(table, model, size, without, skip_bad, draws))
    mine = [number for number in range(parts) if share is None or number in share]
    missing = [number for number in mine if not _is_made(out, number, width)]
    for done, number in enumerate(missing, start=1):
        rows = range(number * size, min((number + 1) * size, len(table)))
        predictions = predictor.predict(table.take(rows), without=without, skip_bad=skip_bad, draws=draws)
        listed = out / f"_bad-{number:0{width}}.json"
        if predictions.bad:
            write_json(listed, [problem.as_dict() for problem in predictions.bad])
        else:
            listed.unlink(missing_ok=True)  # of one who was killed before the part was whole, and read a damaged file
        # An empty file would have fewer columns and other types, and readers take those of the first for all.
        with replacing(_file(out, number, width) if len(predictions) else _none(out, number, width)) as temporary:
            if len(predictions):
                predictions.to_frame().to_parquet(temporary)
        say(f"part {number}: {len(predictions)} studies; {done} of {len(missing)} parts")
    own = set(mine)
    bad = sum(len(read_json(file)) for file in out.glob("_bad-*.json") if _number(file) in own)
    there = sum(_is_made(out, number, width) for number in range(parts))
    return Parts(parts, there, len(missing), bad)


def digest_model(folder: str | Path) -> str:
    """Return the digest of all files of a bundle or an exported folder that its answers depend on."""
    found = hashlib.sha256()
    for file in sorted(Path(folder).iterdir()):
        if file.is_file() and file.suffix in (".json", ".safetensors", ".onnx", ".pt2"):
            found.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


def _file(out: Path, number: int, width: int) -> Path:
    return out / f"part-{number:0{width}}.parquet"


def _none(out: Path, number: int, width: int) -> Path:
    return out / f"_none-{number:0{width}}"


def _is_made(out: Path, number: int, width: int) -> bool:
    return _file(out, number, width).is_file() or _none(out, number, width).is_file()


def _number(file: Path) -> int:
    return int(file.stem.rpartition("-")[2])


def _plan(
    table: StudyTable, model: str, size: int, without: Sequence[str], skip_bad: bool, draws: int | None
) -> dict[str, Any]:
    """What must be the same for all parts, without a name of the table, which may be a patient's."""
    # Without the folder, under which another machine may see the same files.
    frame = table.frame.drop(columns=FOLDER)
    cells = hashlib.sha256("\0".join(frame.columns).encode())
    for start in range(0, len(frame), HASHED):
        cells.update(pd.util.hash_pandas_object(frame[start : start + HASHED], index=False).to_numpy().tobytes())
    asked = {"without": sorted(without), "skip_bad": skip_bad, "draws": draws}
    return {
        "format": FORMAT,
        "mailnet": mailnet.__version__,
        "model": model,
        "table": cells.hexdigest(),
        "studies": len(table),
        "part_size": size,
        **asked,
    }


def _begin(out: Path, plan: dict[str, Any]) -> None:
    if out.exists() and not out.is_dir():
        raise RunError("is a file; parts need a folder", file=out, remedy="Choose another --out")
    if (known := read_part(out / PLAN, FORMAT)) is None:
        other = out.is_dir() and any(not file.name.startswith((".", PLAN)) for file in out.iterdir())
        if other and not (out / PLAN).is_file():  # others may have begun in this moment
            raise RunError("holds something else", file=out, remedy="Choose an empty folder for --out")
        known = write_first_json(out / PLAN, plan)
    if differing := [key for key in plan if key not in ("mailnet", "format") and known.get(key) != plan[key]]:
        verb = "differs" if len(differing) == 1 else "differ"
        raise RunError(
            f"holds parts of another command: its {' and '.join(differing)} {verb}",
            file=out,
            remedy="Choose another --out, or give the same model, table and options",
        )
