"""From a bundle to a program of ``torch.export``, and its package ``model.pt2``."""

from __future__ import annotations

import json
import logging
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from mailnet.bundle import Bundle
from mailnet.deploy.export.fold import operations, simplify, unfolded
from mailnet.deploy.export.graph import Answers, Names, allows_absence, example
from mailnet.errors import ConfigError, RunError
from mailnet.nn.noise import NoiseMode, get_noise

FILE = "model.pt2"
EXAMPLES = 3  # studies that a graph is traced with; of one it would be taken for all there ever are


@dataclass(frozen=True)
class Exported:
    """A network as a graph, of which the files are made.

    Args:
        graph: ``(inputs, present) -> {name: tensor}`` as ``Answers``, simplified, float32.
        names: Of its inputs and outputs.
        modalities: Modalities with a presence mask; none where all must be there.
        bundle: Where it comes from.
        noise: As ``Answers`` has it.
    """

    graph: fx.GraphModule
    names: Names
    modalities: list[str]
    bundle: Bundle
    noise: NoiseMode | None

    def program(self, module: nn.Module | None = None) -> ExportedProgram:
        """Return the graph, or another module of its signature, as a program with any number of studies."""
        arguments = example(self.bundle.modalities, self.modalities, EXAMPLES)
        studies = Dim("studies", min=1)
        shapes = tuple({name: {0: studies} for name in several} for several in arguments)
        with quiet(), torch.no_grad():
            return torch.export.export(self.graph if module is None else module, arguments, dynamic_shapes=shapes)


def trace(bundle: Bundle, noise: NoiseMode | None = None) -> Exported:
    """Return a bundle's network as a graph.

    Args:
        bundle: The bundle, fresh from ``read_bundle``; its network is changed and can't be used again.
        noise: What becomes of a random network's numbers: ``mean`` (the default) averages the very draws of
            ``Predictor``, as constants; ``off`` leaves them out; ``sample`` draws anew at every call.

    Raises:
        ConfigError: The network draws no random numbers, so ``noise`` means nothing.
        RunError: The network cannot be exported.
    """
    random = get_noise(bundle.model) is not None
    if noise is not None and not random:
        raise ConfigError(f"the network '{bundle.model_name}' draws no random numbers", remedy="Leave --noise out")
    mode: NoiseMode | None = (noise or "mean") if random else None
    with reasons(bundle.model_name, mode):
        absent = allows_absence(bundle.model, bundle.modalities)
        answers = Answers(bundle, mode, absent)
        names = Names.of(answers)
        found = Exported(fx.GraphModule(nn.Module(), fx.Graph()), names, answers.names, bundle, mode)
        graph: Any = found.program(answers).module()
        simplify(graph)
        if left := unfolded(operations(graph)):
            raise ValueError(f"'{left[0]}' was not folded")
    return Exported(graph, names, answers.names, bundle, mode)


@contextmanager
def reasons(network: str, noise: str | None) -> Iterator[None]:
    """Turn whatever the exporter raises into one clear error."""
    try:
        yield
    except (ConfigError, RunError, MemoryError):
        raise
    except Exception as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        other = "" if noise in (None, "off") else " Without its random numbers it may be: give --noise off."
        raise RunError(
            f"the network '{network}' cannot be exported ({reason[:300]})",
            remedy=f"Serve the bundle itself, with torch.{other}",
        ) from error


def write_program(path: Path, program: ExportedProgram) -> None:
    """Write a package; its example inputs are left out, since loading would unpickle them."""
    program.example_inputs = None
    with quiet():
        torch.export.save(program, path)


def read_program(path: Path) -> Any:
    """Return the module of a package, ``(inputs, present) -> {name: tensor}``, after ``refuse_pickles``.

    ``torch.export.load`` is not made for files of strangers even so: it evaluates expressions of the sizes of tensors.
    Load packages of people you trust, and take ONNX files from others.

    Raises:
        RunError: It cannot be read, or holds pickled objects.
    """
    refuse_pickles(path)
    try:
        with quiet():
            return torch.export.load(path).module()
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"cannot be read ({reason})", file=path, remedy="Export again") from error


def refuse_pickles(path: Path) -> None:
    """Refuse a package of which ``torch.export.load`` would unpickle anything.

    It stores weights and constants as plain bytes with a JSON that describes them. Pickled are only tensors of unusual
    classes, objects that are no tensors, and example inputs: none of these is in a package of ``write_program``.

    Raises:
        RunError: It holds any, or is no such package.
    """
    remedy = "Export again"
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                kind = name.partition("/data/")[2]
                pickled = Path(name).name.startswith(("custom_obj_", "opaque_obj_"))
                if kind.startswith("sample_inputs/"):
                    pickled = archive.getinfo(name).file_size > 0
                elif kind.startswith(("weights/", "constants/")) and name.endswith(".json"):
                    config = json.loads(archive.read(name))["config"]
                    pickled = any(one["use_pickle"] for one in config.values())
                elif kind.startswith("aotinductor/") or name.endswith((".so", ".pyd", ".pkl")):
                    pickled = True
                if pickled:
                    raise RunError(f"holds code or pickled objects ({name})", file=path, remedy=remedy)
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"cannot be read ({error})", file=path, remedy=remedy) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings of exporters, which concern their authors, from the user."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def shapes_of(tensors: dict[str, Tensor]) -> dict[str, list[int]]:
    """Return name -> shape without the studies."""
    return {name: list(tensor.shape[1:]) for name, tensor in tensors.items()}
