"""A bundle on disk: ``config.json``, ``model.safetensors`` and the model card ``README.md``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import mailnet
from mailnet.bundle.card import CARD, CONFIG, Facts, model_card
from mailnet.bundle.foreign import Foreign
from mailnet.bundle.foreign_files import read_foreign
from mailnet.bundle.reliability import Reliability, read_reliability
from mailnet.data.config import ModalityConfig, StudyConfig
from mailnet.data.table import TableState
from mailnet.errors import RunError
from mailnet.files import read_json, replacing, write_json, write_text
from mailnet.nn.registry import Network, create_model, default_options
from mailnet.specs import ModalitySpec, TaskSpec, from_dict, to_dict

FORMAT = 2  # 1: a dictionary a numeric column of a table, still read
WEIGHTS = "model.safetensors"
_SECTIONS: TypeAdapter[dict[str, ModalityConfig]] = TypeAdapter(dict[str, ModalityConfig])


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory.

    Args:
        model: The network, in evaluation mode, on the CPU.
        modalities: Its modalities.
        tasks: Its tasks.
        model_name: Its name in the registry.
        options: What it was created with.
        study: Name of the study that it was trained on.
        regime: ``paired`` or ``unpaired``.
        id_column: Name of the manifest's column of identifiers, if any.
        preprocessing: Modality -> how its files become arrays.
        tables: Tabular modality -> the state that turns columns into features.
        reliability: Its calibration and prediction sets, None where none were fitted.
        foreign: What tells studies unlike those of training, None where it was not fitted.
    """

    model: nn.Module
    modalities: dict[str, ModalitySpec]
    tasks: dict[str, TaskSpec]
    model_name: str
    options: dict[str, Any]
    study: str
    regime: str
    id_column: str | None
    preprocessing: dict[str, ModalityConfig]
    tables: dict[str, TableState]
    reliability: Reliability | None = None
    foreign: Foreign | None = None


def save_bundle(
    folder: str | Path,
    model: nn.Module,
    model_name: str,
    options: Mapping[str, Any],
    config: StudyConfig,
    tables: Mapping[str, TableState],
    counts: Mapping[str, Any] | None = None,
) -> Path:
    """Write a bundle; an earlier one in the folder is replaced at once.

    Args:
        folder: The bundle.
        model: A network of the registry.
        model_name: Its name there.
        options: What it was created with.
        config: The study; of it only the preprocessing, the names of study and columns and the regime are kept: no path
            and no identifier.
        tables: State of every tabular modality.
        counts: Split -> number of studies, for the model card.

    Raises:
        RunError: The folder cannot be written.
    """
    folder = Path(folder)
    new, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    for stale in (new, old):
        shutil.rmtree(stale, ignore_errors=True)
    network = cast(Network, model)
    values: dict[str, Any] = {
        "format": FORMAT,
        "mailnet": mailnet.__version__,
        "study": config.name,
        "regime": config.regime,
        "id": config.id,
        "model": {
            "name": model_name,
            "options": dict(options),
            "defaults": default_options(model_name),
            "parameters": sum(p.numel() for p in model.parameters()),
        },
        "modalities": [to_dict(spec) for spec in network.modalities.values()],
        "tasks": [to_dict(spec) for spec in network.tasks.values()],
        "preprocessing": {name: section.model_dump(mode="json") for name, section in config.modalities.items()},
        "tables": {name: state.to_dict() for name, state in tables.items()},
    }
    write_tensors(new / WEIGHTS, model.state_dict())
    write_json(new / CONFIG, values)
    data = {} if counts is None else {"studies": counts}
    facts = Facts(values, values["model"]["parameters"], config.description, config.source, data)
    write_text(new / CARD, model_card(facts))
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file at once or not at all.

    Raises:
        RunError: The system refused the write.
    """
    with replacing(path) as temporary:
        try:
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary)
        except SafetensorError as error:  # how the library reports what the system refused
            raise OSError(str(error)) from error


def read_bundle(path: str | Path) -> Bundle:
    """Read a bundle, or the bundle of a run.

    Raises:
        RunError: It is missing, damaged, or written by a newer mailnet.
    """
    folder = find_bundle(Path(path))
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
        model_name, options = values["model"]["name"], values["model"]["options"]
        model = create_model(model_name, modalities, tasks, **values["model"].get("defaults", {}) | options)
        preprocessing = _SECTIONS.validate_python(values["preprocessing"])
        tables = {name: TableState.from_dict(state) for name, state in values["tables"].items()}
        study, regime, id_column = str(values["study"]), str(values["regime"]), values.get("id")
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        remedy = "Restore the bundle or train again"
        raise RunError(f"cannot be understood ({error})", file=folder / CONFIG, remedy=remedy) from error
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        remedy = "Restore the bundle or train again"
        raise RunError(f"cannot be read ({reason})", file=folder / WEIGHTS, remedy=remedy) from error
    reliability = read_reliability(folder, tasks)
    return Bundle(model.eval(), modalities, tasks, model_name, options, study, regime, id_column, preprocessing, tables,
                  reliability, read_foreign(folder, modalities, tables))  # fmt: skip


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
    # The folder of a study holds a study.yaml as well.
    unfinished = (path / "checkpoint").is_dir() or (path / "run.json").is_file()
    raise RunError(
        "is a run whose training has not finished" if unfinished else "holds no bundle",
        file=path,
        remedy="Give the 'mailnet train' command again, it goes on where it was"
        if unfinished
        else "Give the folder that 'mailnet train' printed",
    )
