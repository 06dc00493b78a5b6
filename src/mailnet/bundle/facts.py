"""What a bundle says of its model, without the network: ``config.json`` and what was fitted afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

import mailnet
from mailnet.bundle.card.facts import CONFIG
from mailnet.bundle.foreign import Foreign
from mailnet.bundle.foreign_files import read_foreign
from mailnet.bundle.reliability import Reliability, read_reliability
from mailnet.data.config import ModalityConfig
from mailnet.data.table import TableState
from mailnet.errors import RunError
from mailnet.files import read_json
from mailnet.specs import ModalitySpec, TaskSpec, from_dict

FORMAT = 2  # 1: a dictionary a numeric column of a table, still read
_SECTIONS: TypeAdapter[dict[str, ModalityConfig]] = TypeAdapter(dict[str, ModalityConfig])


@dataclass(frozen=True)
class BundleFacts:
    """All of a bundle but its network.

    Args:
        modalities: Its modalities.
        tasks: Its tasks.
        model_name: The network's name in the registry.
        options: What it was created with.
        defaults: Its other options, as they were then.
        study: Name of the study that it was trained on.
        regime: ``paired`` or ``unpaired``.
        id_column: Name of the manifest's column of identifiers, if any.
        preprocessing: Modality -> how its files become arrays.
        tables: Tabular modality -> the state that turns columns into features.
        reliability: Its calibration and prediction sets, None where none were fitted.
        foreign: What tells studies unlike those of training, None where it was not fitted.
    """

    modalities: dict[str, ModalitySpec]
    tasks: dict[str, TaskSpec]
    model_name: str
    options: dict[str, Any]
    defaults: dict[str, Any]
    study: str
    regime: str
    id_column: str | None
    preprocessing: dict[str, ModalityConfig]
    tables: dict[str, TableState]
    reliability: Reliability | None = None
    foreign: Foreign | None = None


def read_facts(folder: Path) -> BundleFacts:
    """Read them; of the network nothing is read but its name and options.

    Args:
        folder: The bundle.

    Raises:
        RunError: It is missing, damaged, or written by a newer mailnet.
    """
    values = read_json(folder / CONFIG)
    try:
        if int(values["format"]) > FORMAT:
            raise RunError(
                f"was written by mailnet {values['mailnet']} in format {values['format']}; this is mailnet "
                f"{mailnet.__version__}, which reads up to format {FORMAT}",
                file=folder,
                remedy="Update mailnet",
            )
        modalities = {spec["name"]: from_dict(ModalitySpec, spec) for spec in values["modalities"]}
        tasks = {spec["name"]: from_dict(TaskSpec, spec) for spec in values["tasks"]}
        tables = {name: TableState.from_dict(state) for name, state in values["tables"].items()}
        return BundleFacts(
            modalities=modalities,
            tasks=tasks,
            model_name=str(values["model"]["name"]),
            options=dict(values["model"]["options"]),
            defaults=dict(values["model"].get("defaults", {})),
            study=str(values["study"]),
            regime=str(values["regime"]),
            id_column=values.get("id"),
            preprocessing=_SECTIONS.validate_python(values["preprocessing"]),
            tables=tables,
            reliability=read_reliability(folder, tasks),
            foreign=read_foreign(folder, modalities, tables),
        )
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        remedy = "Restore the bundle or train again"
        raise RunError(f"cannot be understood ({error})", file=folder / CONFIG, remedy=remedy) from error


def find_bundle(path: Path) -> Path:
    """Return the folder of a bundle, or of the bundle of a run.

    Raises:
        RunError: There is none.
    """
    for folder in (path / "bundle", path):
        if (folder / CONFIG).is_file():
            return folder
    if not path.is_dir():
        raise RunError("is no folder", file=path, remedy="Give the folder that 'mailnet train' printed")
    inside = [one for one in sorted(path.iterdir()) if any((one / part / CONFIG).is_file() for part in ("", "bundle"))]
    if inside:  # such as of 'mailnet demo', or of exports in several precisions
        names = ", ".join(map(str, inside[:4])) + (" ..." if len(inside) > 4 else "")
        raise RunError("holds models, and is none", file=path, remedy=f"Give {'one of ' * (len(inside) > 1)}{names}")
    # The folder of a study holds a study.yaml as well.
    if (path / "checkpoint").is_dir() or (path / "run.json").is_file():
        raise RunError(
            "is a run whose training has not finished",
            file=path,
            remedy="Give the 'mailnet train' command again, it goes on where it was",
        )
    raise RunError("holds no bundle", file=path, remedy="Give the folder that 'mailnet train' printed")
