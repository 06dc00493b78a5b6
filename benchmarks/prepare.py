"""Makes the data root of the benchmark: copies of the archives, and clean tables of those sets whose own splits leak.

    python benchmarks/prepare.py --data-root DATA --out OUT
    mailnet check benchmarks/studies/mri_ct.yaml --data-root OUT

OUT then is the ``--data-root`` of every study in ``benchmarks/studies``. It holds the archives that these read, copied,
since nothing outside a data root is read, and ``prepared/SET.csv``: the rows of ``labels.csv`` with the columns
``group`` and ``split`` written anew. A group is what the set itself keeps together (a lesion, a patient) and pictures
that are nearly the same by the measure of ``mailnet check``, here also when mirrored or turned upside down: of the
brain MRI, half of the test pictures would otherwise have a mirrored copy in training. How a set is divided:

* ``draw``: no split that keeps groups together is published. Groups are divided by shares, stratified by label.
* ``keep``: the split stays. A row whose group is in a later split too (train, val, test) is left out.
* ``blocks``: patients are not named, but neighbouring numbers of files are one patient. Each class is cut by number
  into 10% val, 70% train, 20% test; between two blocks a patient's worth of rows is left out, which are training's, as
  it has most; then as for ``keep``.

The same archives give the same tables, byte for byte. Nothing of the data belongs into the repository.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from mailnet.data.catalog.content import components
from mailnet.data.check.pictures import Pictures, read_pictures
from mailnet.data.check.similar import similar_pairs
from mailnet.data.config import SPLITS, ImageConfig, SplitConfig, load_config
from mailnet.data.locations import split_location
from mailnet.data.splits import split_rows
from mailnet.data.tables import read_table
from mailnet.files import replacing, write_text

STUDIES = Path(__file__).resolve().parent / "studies"
FOLDER = "prepared"
# Slices a patient of IQ-OTH/NCCD, as published: 416 of 55 normal, 120 of 15 benign, 561 of 40 malignant cases.
SLICES = {"normal": 8, "benign": 8, "malignant": 14}


def keep(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose group is in no later split."""
    rank = table["split"].map({split: k for k, split in enumerate(SPLITS)})
    return table[rank == rank.groupby(table["group"]).transform("max")]


def draw(table: pd.DataFrame, shares: SplitConfig) -> pd.DataFrame:
    """Return the rows with a split that divides groups by shares."""
    return table.assign(split=split_rows(list(table["group"]), [(label,) for label in table["label"]], shares))


def blocks(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows in blocks of neighbouring numbers, with a gap between two blocks."""
    # The files are numbered in the order of the published ones: benign/0001.jpg.
    order = table["file"].str.extract(r"(\d+)\.\w+$", expand=False).astype(int)
    parts = []
    for label, own in table.assign(order=order).groupby("label"):
        own = own.sort_values("order")
        val, test, gap = round(0.1 * len(own)), round(0.8 * len(own)), SLICES[str(label)]
        place = np.arange(len(own))
        split = np.select([place < val, place >= test], ["val", "test"], "train")
        gone = (split == "train") & ((place < val + gap) | (place >= test - gap))
        parts.append(own.assign(split=split)[~gone])
    return keep(pd.concat(parts).sort_index().drop(columns="order"))


def two_origins(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the two origins that have both answers in number; elsewhere the origin tells the answer."""
    origin = table["url"].str.extract(r"//(?:www\.)?([\w.-]+)", expand=False)
    both = origin.isin(["radiopaedia.org", "eurorad.org"]) & table["label"].isin(["covid19", "other_pneumonia"])
    # So few patients that a tenth of them would choose no epoch. Some have nine pictures: with this seed the shares of
    # pictures are those of patients.
    return draw(table.assign(origin=origin)[both], SplitConfig(train=0.5, val=0.2, test=0.3, seed=1))


@dataclass(frozen=True)
class Set:
    """A set whose table is written anew.

    Args:
        archive: The zip, below the data root.
        divide: From rows with a ``group`` to rows with a clean ``split``.
        image: How its pictures are read to be compared.
        owner: Column of what the set itself keeps together.
    """

    archive: str
    divide: Callable[[pd.DataFrame], pd.DataFrame]
    image: ImageConfig = field(default_factory=lambda: ImageConfig(size=64))
    owner: str | None = None


_COLOUR = ImageConfig(size=64, channels=3)
SETS = {
    "brain_mri": Set(
        "bench_open/brain_tumor_mri_nickparvar128.zip", partial(draw, shares=SplitConfig(train=0.7, val=0.1, test=0.2))
    ),
    "lung_ct": Set("bench_unclear/lung_ct_iqothnccd128.zip", blocks),
    "blood_cells": Set("bench_open/blood_cells_pbc64.zip", keep, _COLOUR),
    "ham10000": Set(
        "bench_nc/ham10000_image_clinical_mask128.zip",
        keep,
        ImageConfig(size=64, channels=3, resize="stretch"),
        "lesion_id",
    ),
    "covid": Set("bench_nc/covid_cxr_clinical160.zip", two_origins, owner="patientid"),
}


def looks(pictures: Pictures) -> np.ndarray:
    """Return a number for each file (F,), equal where pictures are nearly the same, also mirrored or upside down."""
    small, count = pictures.thumbnail, len(pictures.thumbnail)
    # A picture of one value is like every other of one value.
    varied = np.flatnonzero(~pictures.constant)
    keys: list[list[str]] = [[] for _ in range(count)]
    for k in varied.tolist():
        keys[k].append(small[k].tobytes().hex())
    for turned in (small, small[:, :, ::-1], small[:, ::-1], small[:, ::-1, ::-1]):
        places = np.concatenate([varied, count + varied])
        # What is joined already would take the places of what is not.
        wanted = partial(_apart, np.array(components(keys)), places)
        pairs, _ = similar_pairs(np.concatenate([small, turned]), places, wanted)
        for first, second in (places[pairs] % count).tolist():
            keys[first].append(f"{first} {second}")
            keys[second].append(f"{first} {second}")
    return np.array(components(keys))


def _apart(numbers: np.ndarray, places: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return whether pairs are one picture as it is and one turned, of two groups."""
    a, b, count = places[first], places[second], len(numbers)
    different: np.ndarray = ((a < count) != (b < count)) & (numbers[a % count] != numbers[b % count])
    return different


def table_of(name: str, root: Path) -> pd.DataFrame:
    """Return the rows of a set with clean groups and splits.

    Args:
        name: One of ``SETS``.
        root: Folder that holds its archive.

    Returns:
        The columns of its ``labels.csv``, ``file`` relative to ``OUT/prepared``, with ``group`` and ``split``.
    """
    own = SETS[name]
    table = read_table(f"{root / own.archive}!labels.csv")
    seen = read_pictures(f"{root / own.archive}!" + table["file"], own.image, name)
    keys = pd.DataFrame({"look": looks(seen)[seen.file]}).astype(str)
    if own.owner is not None:
        keys["owner"] = table[own.owner]
    numbers = components([[f"{key} {row[key]}" for key in keys if row[key]] for row in keys.to_dict("records")])
    grouped = table.assign(group=[f"g{number}" for number in numbers])
    divided = own.divide(grouped)
    return divided.assign(file=f"../{own.archive}!" + divided["file"])


def archives() -> list[str]:
    """Return the archives that the studies read."""
    tables = [source.table for path in sorted(STUDIES.glob("*.yaml")) for source in load_config(path).manifest]
    direct = {split_location(table)[0] for table in tables if not table.startswith(FOLDER)}
    return sorted(direct | {own.archive for own in SETS.values()})


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder for the copies and the tables")
    given = parser.parse_args(arguments)
    for archive in archives():
        target = given.out / archive
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as temporary:
                shutil.copyfile(given.data_root / archive, temporary)
    for name, own in SETS.items():
        table = table_of(name, given.out)
        write_text(given.out / FOLDER / f"{name}.csv", table.to_csv(index=False))
        counts = ", ".join(f"{split} {int((table['split'] == split).sum())}" for split in SPLITS)
        whole = len(read_table(f"{given.out / own.archive}!labels.csv"))
        print(f"{name}: {whole} rows, {len(table)} kept in {table['group'].nunique()} groups: {counts}", flush=True)


if __name__ == "__main__":
    main()
