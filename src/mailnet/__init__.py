"""Multimodal medical image classification. For research use; not a medical device.

Names load on first use, so that ``import mailnet`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailnet.bundle import Predictor
    from mailnet.deploy.hub import from_pretrained
    from mailnet.deploy.runtime import load
    from mailnet.estimator import MAILClassifier
    from mailnet.nn import create_model, list_models, register_model
    from mailnet.specs import ModalitySpec, TaskSpec

__version__ = "0.1.0"

_HOMES = {
    "create_model": "mailnet.nn",
    "list_models": "mailnet.nn",
    "register_model": "mailnet.nn",
    "ModalitySpec": "mailnet.specs",
    "TaskSpec": "mailnet.specs",
    "load": "mailnet.deploy.runtime",
    "from_pretrained": "mailnet.deploy.hub",
    "Predictor": "mailnet.bundle",
    "MAILClassifier": "mailnet.estimator",
}

__all__ = [
    "MAILClassifier",
    "ModalitySpec",
    "Predictor",
    "TaskSpec",
    "create_model",
    "from_pretrained",
    "list_models",
    "load",
    "register_model",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'mailnet' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
