"""``study.yaml``: what the data are, what is asked of them, and how to train; unknown keys are errors."""

from mailnet.data.config.base import SPLITS, Scalar, Section, Split
from mailnet.data.config.defense import DefenseConfig
from mailnet.data.config.manifest import Build, Condition, Join, ManifestSource, Pivot, SplitConfig
from mailnet.data.config.modalities import (
    ImageConfig,
    ModalityConfig,
    PixelConfig,
    TabularConfig,
    VolumeConfig,
    Window,
)
from mailnet.data.config.study import StudyConfig, dump_config, load_config, parse_config
from mailnet.data.config.tasks import TaskConfig
from mailnet.data.config.training import (
    ROBUST,
    DistillConfig,
    EvaluationConfig,
    ModelConfig,
    PretrainConfig,
    TrainConfig,
)

__all__ = [
    "ROBUST",
    "SPLITS",
    "Build",
    "Condition",
    "DefenseConfig",
    "DistillConfig",
    "EvaluationConfig",
    "ImageConfig",
    "Join",
    "ManifestSource",
    "ModalityConfig",
    "ModelConfig",
    "Pivot",
    "PixelConfig",
    "PretrainConfig",
    "Scalar",
    "Section",
    "Split",
    "SplitConfig",
    "StudyConfig",
    "TabularConfig",
    "TaskConfig",
    "TrainConfig",
    "VolumeConfig",
    "Window",
    "dump_config",
    "load_config",
    "parse_config",
]
