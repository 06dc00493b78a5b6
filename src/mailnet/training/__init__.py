"""Training: a run folder, with a bundle in it, from a configuration."""

from mailnet.training.device import is_first_process
from mailnet.training.engine import train
from mailnet.training.run import TrainResult

__all__ = ["TrainResult", "is_first_process", "train"]
