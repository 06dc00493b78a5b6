"""Why a model says what it says of one study, for JSON."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from mailnet.deploy.service.refusal import Refused, unusable
from mailnet.deploy.service.served import Asked, Served
from mailnet.errors import MailnetError
from mailnet.specs import TaskSpec

DRAWS = 10  # of a random network, as its predictions have


def explain_study(served: Served, asked: Asked, task: str | None, method: str | None, target: str | None) -> bytes:
    """Return the answer of ``/v1/explain`` as JSON: what each modality is worth, and heat maps on one scale.

    Args:
        served: The model.
        asked: The study.
        task: A task; default the model's first.
        method: A method; default the model's first.
        target: A class; default the one predicted.

    Raises:
        Refused: The study cannot be used, or something of the question is unknown.
    """
    from mailnet.explain import explain, modality_shares
    from mailnet.nn.noise import get_noise

    predictor = served.explainer
    if predictor is None:
        raise Refused(422, "an exported model explains nothing", "Serve the run that it was exported from")
    task = _one_of("task", task, list(predictor.tasks))
    method = _one_of("method", method, served.explains)
    spec: TaskSpec = predictor.tasks[task]
    if target is not None:
        _one_of("target", target, list(spec.classes))
    try:
        batch, _ = predictor.read([asked.row("study")])
        draws = DRAWS if get_noise(predictor.model) is not None else 1
        found = explain(predictor.model, batch, task, target, method, draws=draws)
        classes = found.target.cpu()
        # Of a network that needs all modalities, nobody knows what it would say without one.
        shares = {} if served.needs_all else modality_shares(predictor.predict_batch, batch, spec, classes).shares
    except MailnetError as error:
        raise unusable(error) from None
    except ValueError as error:
        raise Refused(422, str(error), f"Choose another method of {', '.join(served.explains)}") from None
    here = {name: bool(present[0]) for name, present in batch.present.items()}
    maps = {name: values[0].cpu().numpy() for name, values in found.maps.items() if here[name]}
    high = max((float(np.abs(values).max()) for values in maps.values()), default=0.0)
    low = -high if found.signed else 0.0
    return as_json(
        {
            "model": served.name,
            "task": task,
            "target": spec.classes[int(classes[0])],
            "method": method,
            "shares": {name: float(values[0]) for name, values in shares.items() if here[name]},
            "maps": {
                name: {"shape": list(values.shape), "low": low, "high": high, "png": _picture(values, low, high)}
                for name, values in maps.items()
            },
        }
    )


def _one_of(what: str, given: str | None, known: list[str]) -> str:
    if given is None:
        return known[0]
    if given not in known:
        raise Refused(422, f"the model has no such {what}", f"It has {', '.join(known)}")
    return given


def _picture(values: np.ndarray, low: float, high: float) -> str:
    """Return a map as a grey PNG in base64, 0 for ``low`` and 255 for ``high``; planes one below the other."""
    unit = (values - low) / (high - low) if high > low else np.zeros_like(values)
    grey = np.rint(unit.clip(0, 1) * 255).astype(np.uint8).reshape(-1, values.shape[-1])
    content = io.BytesIO()
    Image.fromarray(grey).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode("ascii")


def as_json(value: Any) -> bytes:
    """Return an answer's bytes; made where it was found, since large ones take a while."""
    import json

    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
