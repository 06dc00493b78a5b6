"""Why the network answers so, for each image of one study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mailnet.errors import ConfigError

if TYPE_CHECKING:
    from mailnet.bundle import StudyPredictor

DRAWS = 10  # of a random network, as its predictions have


@dataclass(frozen=True)
class Heat:
    """A heat map of one image or volume for one task.

    Args:
        task: The task.
        target: The class explained.
        modality: The modality.
        method: How it was made.
        values: (H, W) or (D, H, W) as the network sees the modality, log-odds, see ``mailnet.explain.explanation``.
        signed: Whether values below zero mean something.
        top: Value that has full colour, one for all modalities of a task.
    """

    task: str
    target: str
    modality: str
    method: str
    values: np.ndarray
    signed: bool
    top: float


def heat_maps(
    predictor: StudyPredictor, row: Mapping[str, Any], tasks: Sequence[str] = (), method: str = "layer_cam"
) -> list[Heat]:
    """Explain one study: a map of each image and volume for each task's most probable class.

    Args:
        predictor: The model.
        row: The study, as ``Predictor.predict`` takes it.
        tasks: Default all.
        method: One of ``mailnet.explain.list_explainers()``.

    Raises:
        DataError: The study cannot be read.
        ConfigError: An unknown task or method, one that this network has no use for, or an exported model.
    """
    check_heat(predictor, tasks, method)
    from mailnet.bundle import Predictor
    from mailnet.explain import explain
    from mailnet.explain.overlay.colours import scale_top

    assert isinstance(predictor, Predictor)
    batch, _ = predictor.read(row)
    found: list[Heat] = []
    for task in tasks or predictor.tasks:
        draws = DRAWS if predictor.noise is not None else 1
        try:
            why = explain(predictor.model, batch, task, None, method, draws=draws)
        except ValueError as error:
            raise ConfigError(str(error), task=task, remedy="See 'mailnet explain --help' for the methods") from error
        maps = {name: values[0].cpu().numpy() for name, values in why.maps.items() if bool(batch.present[name][0])}
        top, target = scale_top(maps), predictor.tasks[task].classes[int(why.target[0])]
        found += [Heat(task, target, name, method, values, why.signed, top) for name, values in maps.items()]
    return found


def check_heat(predictor: StudyPredictor, tasks: Sequence[str] = (), method: str = "layer_cam") -> None:
    """Refuse heat maps that no study could have.

    Args:
        predictor: The model.
        tasks: Tasks that are to be explained.
        method: How.

    Raises:
        ConfigError: An exported model, an unknown task or an unknown method.
    """
    if not hasattr(predictor, "model"):
        raise ConfigError("an exported model cannot be explained", remedy="Use the run or the bundle itself")
    from mailnet.explain import list_explainers

    if unknown := [name for name in tasks if name not in predictor.tasks]:
        raise ConfigError(f"the model has no task '{unknown[0]}'", remedy=f"It has {', '.join(predictor.tasks)}")
    if method not in list_explainers():
        raise ConfigError(f"there is no method '{method}'", remedy=f"Use {', '.join(list_explainers())}")
