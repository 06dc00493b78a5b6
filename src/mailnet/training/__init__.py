"""Training: a run folder, with a bundle in it, from a configuration."""

from mailnet.training.engine import train
from mailnet.training.run import TrainResult

__all__ = ["TrainResult", "train"]
