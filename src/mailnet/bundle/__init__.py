"""One folder holds everything that a prediction needs: weights, preprocessing, columns, class names, model card.

What needs torch loads on first use, so that an exported model is read without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mailnet.bundle.asking import StudyPredictor
from mailnet.bundle.facts import BundleFacts, find_bundle, read_facts
from mailnet.bundle.foreign import Foreign, ForeignFound
from mailnet.bundle.foreign_files import write_foreign
from mailnet.bundle.predictions import Predictions
from mailnet.bundle.reliability import Reliability, write_reliability

if TYPE_CHECKING:
    from mailnet.bundle.predictor import Predictor, load
    from mailnet.bundle.store import Bundle, read_bundle, save_bundle, write_tensors

_HOMES = {
    "Bundle": "mailnet.bundle.store",
    "Predictor": "mailnet.bundle.predictor",
    "load": "mailnet.bundle.predictor",
    "read_bundle": "mailnet.bundle.store",
    "save_bundle": "mailnet.bundle.store",
    "write_tensors": "mailnet.bundle.store",
}

__all__ = [
    "Bundle",
    "BundleFacts",
    "Foreign",
    "ForeignFound",
    "Predictions",
    "Predictor",
    "Reliability",
    "StudyPredictor",
    "find_bundle",
    "load",
    "read_bundle",
    "read_facts",
    "save_bundle",
    "write_foreign",
    "write_reliability",
    "write_tensors",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'mailnet.bundle' has no attribute '{name}'")
