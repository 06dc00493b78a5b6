"""A bundle on disk: ``config.json``, ``model.safetensors`` and the model card ``README.md``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import mailnet
from mailnet.bundle.card import CARD, CONFIG, Facts, model_card
from mailnet.bundle.facts import FORMAT, BundleFacts, find_bundle, read_facts
from mailnet.data.config import StudyConfig
from mailnet.data.table import TableState
from mailnet.errors import RunError
from mailnet.files import replacing, write_json, write_text
from mailnet.folders import take_place, workshop
from mailnet.nn.registry import Network, create_model, default_options
from mailnet.specs import to_dict

WEIGHTS = "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Bundle(BundleFacts):
    """A bundle in memory.

    Args:
        model: The network, in evaluation mode, on the CPU.
    """

    model: nn.Module


def save_bundle(
    folder: str | Path,
    model: nn.Module,
    model_name: str,
    options: Mapping[str, Any],
    config: StudyConfig,
    tables: Mapping[str, TableState],
    counts: Mapping[str, Any] | None = None,
) -> Path:
    """Write a bundle; an earlier one in the folder is replaced at once, also where two are written into it.

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
    data = {} if counts is None else {"studies": counts}
    facts = Facts(values, values["model"]["parameters"], config.description, config.source, data)
    with workshop(folder) as place:
        made = place / folder.name
        write_tensors(made / WEIGHTS, model.state_dict())
        write_json(made / CONFIG, values)
        write_text(made / CARD, model_card(facts))
        take_place(made, folder)
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
    facts = read_facts(folder)
    try:
        model = create_model(facts.model_name, facts.modalities, facts.tasks, **facts.defaults | facts.options)
    except (TypeError, ValueError) as error:
        remedy = "Restore the bundle or train again"
        raise RunError(f"cannot be understood ({error})", file=folder / CONFIG, remedy=remedy) from error
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        remedy = "Restore the bundle or train again"
        raise RunError(f"cannot be read ({reason})", file=folder / WEIGHTS, remedy=remedy) from error
    return Bundle(**{field.name: getattr(facts, field.name) for field in fields(facts)}, model=model.eval())
