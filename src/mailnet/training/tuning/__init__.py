"""Search for settings of training by validation results, resumable."""

from mailnet.training.tuning.space import Space, default_space, read_space
from mailnet.training.tuning.tune import tune

__all__ = ["Space", "default_space", "read_space", "tune"]
