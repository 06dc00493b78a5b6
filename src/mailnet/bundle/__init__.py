"""One folder holds everything that a prediction needs: weights, preprocessing, columns, class names, model card."""

from mailnet.bundle.foreign import Foreign, ForeignFound
from mailnet.bundle.foreign_files import write_foreign
from mailnet.bundle.predictions import Predictions
from mailnet.bundle.predictor import Predictor, load
from mailnet.bundle.reliability import Reliability, write_reliability
from mailnet.bundle.store import Bundle, find_bundle, read_bundle, save_bundle, write_tensors

__all__ = [
    "Bundle",
    "Foreign",
    "ForeignFound",
    "Predictions",
    "Predictor",
    "Reliability",
    "find_bundle",
    "load",
    "read_bundle",
    "save_bundle",
    "write_foreign",
    "write_reliability",
    "write_tensors",
]
