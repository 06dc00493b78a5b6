"""The networks."""

from mailnet.nn.batch import Batch
from mailnet.nn.registry import create_model, list_models, register_model

__all__ = ["Batch", "create_model", "list_models", "register_model"]
