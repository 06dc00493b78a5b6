"""Loads the models of a service from runs, bundles and exported folders."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mailnet.data.config import ModalityConfig, PixelConfig
from mailnet.deploy.runtime import RuntimePredictor, load
from mailnet.deploy.service.results import can_make_dicom
from mailnet.deploy.service.served import KEY, Served, ready
from mailnet.deploy.service.settings import Settings
from mailnet.deploy.service.study import within
from mailnet.deploy.service.upload import TEXTS
from mailnet.errors import ConfigError

if TYPE_CHECKING:
    from mailnet.bundle import Predictor

_CAMS = ("layer_cam", "grad_cam", "grad_cam_pp", "contrast_cam")


def load_models(paths: Sequence[str | Path], settings: Settings, device: str = "auto") -> dict[str, Served]:
    """Return name -> model, in the order given.

    Args:
        paths: Runs, bundles or exported folders, each called as its folder or as ``NAME=PATH`` says.
        settings: Of the service.
        device: As ``mailnet.bundle.load`` takes it.

    Raises:
        ConfigError: Two models of one name, or one that a form cannot be made for.
        RunError: One cannot be read.
    """
    models: dict[str, Served] = {}
    for given in paths:
        name, path = _named(given)
        if name in models:
            raise ConfigError(f"two models are called '{name}'", file=path, remedy="Name one: mailnet serve NAME=PATH")
        models[name] = load_model(name, path, settings, device)
    if not models:
        raise ConfigError("there is no model to serve", remedy="Give a run or a bundle")
    return models


def load_model(name: str, path: Path, settings: Settings, device: str = "auto") -> Served:
    """Return a model, its files read within the service's limits; errors as ``load_models``."""
    predictor = load(path, device)
    facts = predictor.facts
    sections = {n: within(s, settings) if isinstance(s, PixelConfig) else s for n, s in facts.preprocessing.items()}
    _check(name, sections)
    predictor.facts = replace(facts, preprocessing=ready(sections, facts.modalities), id_column=KEY)
    served = Served(name, facts.study, sections, predictor)
    if can_make_dicom():
        from mailnet.deploy.dicom import facts_of

        served.facts = facts_of(predictor, path)
    if isinstance(predictor, RuntimePredictor):
        served.needs_all = len(facts.modalities) > 1 and not predictor.exported["absence"]
        return served
    from mailnet.deploy.export.graph import allows_absence

    model = cast("Predictor", predictor).model
    served.needs_all = len(facts.modalities) > 1 and not allows_absence(model, facts.modalities)
    served.explains = methods(model)
    # Explanations put hooks into a network and ask for gradients, while predictions go on.
    served.explainer = copy.deepcopy(predictor)
    return served


def methods(model: Any) -> list[str]:
    """Return the methods that explain a network, the usual one first."""
    from mailnet.explain import list_explainers
    from mailnet.nn.emcam import EMCAM

    has_layers = hasattr(model, "feature_layers")
    gated = any(isinstance(module, EMCAM) for module in model.modules())
    images = any(spec.spatial_dims for spec in model.modalities.values())
    found = [*(_CAMS if has_layers and images else ()), "gradient", "integrated_gradients"]
    found += [*(("occlusion", "rise") if images else ()), *(("emcam",) if gated and images else ())]
    return [name for name in found if name in list_explainers()]


def _named(given: str | Path) -> tuple[str, Path]:
    text = str(given)
    name, sign, rest = text.partition("=")
    if sign and not Path(text).exists():
        return name, Path(rest)
    path = Path(text).resolve()
    return (path.parent.name if path.name == "bundle" else path.name), Path(text)


def _check(name: str, sections: dict[str, ModalityConfig]) -> None:
    for modality, section in sections.items():
        if isinstance(section, PixelConfig) and modality in TEXTS:
            message = f"its image is called '{modality}', as a field of the service's forms is"
            raise ConfigError(message, file=name, remedy="Train with another name of the modality")
