"""Cells: one network on one study with one seed, each a JSON file, known again by a fingerprint of its settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mailnet.benchmark.suite import Suite, cell_config
from mailnet.errors import ConfigError, RunError
from mailnet.files import read_json, write_text
from mailnet.nn.registry import default_options

FORMAT = 1
# Of a resolved study, what says where it lies or how it is called, and not what is computed.
NOT_COMPUTED = ("name", "description", "source", "data_root")
NOT_TRAINED = ("seed", "device", "checkpoint_minutes", "track", "tracking_uri")
# Of ``train``, all that a model of the table alone looks at.
BOOSTED = ("balance", "monitor")

Status = Literal["missing", "done", "error", "stale"]


@dataclass(frozen=True)
class Cell:
    """A place in the grid.

    Args:
        study: Name of the study in the suite.
        network: Name of the network in the suite.
        seed: Of the training.
    """

    study: str
    network: str
    seed: int

    def __str__(self) -> str:
        return f"{self.study} / {self.network} / seed {self.seed}"

    def folder(self, out: Path) -> Path:
        """Return where the network's files of this study lie."""
        return out / "cells" / self.study / self.network

    def file(self, out: Path) -> Path:
        """Return the file of the cell."""
        return self.folder(out) / f"seed-{self.seed}.json"


def list_cells(
    suite: Suite,
    studies: Sequence[str] | None = None,
    networks: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Cell]:
    """Return the wanted cells, the first seed of all before the second, so that a grid cut short is still whole.

    Raises:
        ConfigError: A name or seed is not in the suite.
    """
    for noun, asked, known in (
        ("study", studies, list(suite.studies)),
        ("network", networks, list(suite.networks)),
        ("seed", seeds, suite.seeds),
    ):
        for one in asked or []:
            if one not in known:
                raise ConfigError(
                    f"the suite has no {noun} '{one}'", remedy=f"It has {', '.join(str(name) for name in known)}"
                )
    return [
        Cell(study, network, seed)
        for seed in suite.seeds
        if not seeds or seed in seeds
        for study in suite.studies
        if not studies or study in studies
        for network, entry in suite.networks.items()
        if (not networks or network in networks) and entry.meets(study)
    ]


def network_fingerprint(suite: Suite, study: str, network: str) -> str:
    """Return a digest of all settings that decide what a network does on a study, but for the seed.

    Raises:
        ConfigError: The study's file or an override is wrong.
    """
    values = cell_config(suite, study, network).model_dump(mode="json")
    entry = suite.networks[network]
    train = {key: value for key, value in values["train"].items() if key not in NOT_TRAINED}
    for key in ("pretrain", "defense", "distill"):
        if train.get(key) is None:  # as before there was such a key, so that cells of then still count
            train.pop(key, None)
    if entry.columns is not None:
        train = {key: train[key] for key in BOOSTED}
        values["model"] = {"columns": entry.columns, "options": entry.options}
    tuning = None
    if suite.tuning is not None and (trials := suite.trials(network)):
        tuning = {"trials": trials, "seed": suite.tuning.seed, "share": suite.tuning.share}
    if entry.name is not None:
        # With the defaults of its options: a network that has changed is another one.
        try:
            values["model"]["options"] = default_options(entry.name) | values["model"]["options"]
        except ValueError as error:
            raise ConfigError(str(error), remedy=f"Mend 'networks.{network}.name' of the suite") from error
    settings = {
        "study": {key: value for key, value in values.items() if key not in NOT_COMPUTED} | {"train": train},
        "budget": None if entry.columns is not None else suite.budget.model_dump(),
        "tuning": tuning,
    }
    if attacks := suite.attacks_on(study, network):
        settings["attacks"] = {name: attack.settings() for name, attack in attacks.items()}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def read_cell(cell: Cell, out: Path) -> dict[str, Any] | None:
    """Return what a cell's file holds, or None where there is none.

    Raises:
        RunError: It is damaged or of a newer mailnet.
    """
    file = cell.file(out)
    if not file.is_file():
        return None
    values: dict[str, Any] = read_json(file)
    if int(values.get("format", FORMAT)) > FORMAT:
        raise RunError(f"was written by mailnet {values.get('mailnet')}", file=file, remedy="Update mailnet")
    return values


def write_cell(cell: Cell, out: Path, values: dict[str, Any]) -> None:
    """Write a cell's file, a line a key: hundreds of redraws would else be as many lines.

    Raises:
        RunError: The system refused the write.
    """
    lines = (f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in values.items())
    write_text(cell.file(out), "{\n" + ",\n".join(lines) + "\n}\n")


def cell_status(values: dict[str, Any] | None, fingerprint: str) -> Status:
    """Return what a cell's file says: ``stale`` where its settings are not those of the suite."""
    if values is None:
        return "missing"
    if values["fingerprint"] != fingerprint:
        return "stale"
    return "error" if "error" in values else "done"
