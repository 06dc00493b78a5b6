"""The network, its training and its evaluation."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from mailnet.data.config.base import Section
from mailnet.data.config.defense import DefenseConfig

ROBUST = "robust_"  # begins the name of a metric under the attack of ``train.defense``


class ModelConfig(Section):
    """The network: a name of ``mailnet.list_models()`` and its options."""

    name: str = "mail"
    options: dict[str, Any] = {}


class PretrainConfig(Section):
    """A contrastive start without labels, on the images of the training studies; see ``mailnet.training.pretrain``."""

    epochs: int = Field(ge=1)
    temperature: float = Field(0.2, gt=0)
    projection: int = Field(128, ge=1)
    learning_rate: float | None = Field(None, gt=0)


class DistillConfig(Section):
    """Learning from a trained network as well as from labels; see ``mailnet.training.distill``.

    ``teacher`` is a run on the same study. ``weight`` is the teacher's share of the loss of the answers, which are
    compared at ``temperature``; ``features`` weighs the likeness of features, 0 for none.
    """

    teacher: str
    temperature: float = Field(2.0, gt=0)
    weight: float = Field(0.5, ge=0, le=1)
    features: float = Field(1.0, ge=0)


class TrainConfig(Section):
    """How to train. ``preset: published`` is Adam 1e-4 on a plateau as the paper did; other keys still override it.

    ``batch_size`` counts the studies of one optimizer step over all processes; ``accumulate`` works through them in so
    many parts, to need less memory. ``modality_dropout`` is the chance that a modality of a study is hidden or, in the
    unpaired regime, that companions are taken apart and trained alone; left out, 0.1 and 0.5. ``monitor`` is with a
    ``defense`` ``robust_balanced_accuracy`` where it is left out. ``track`` names what the epochs are logged to
    beside ``metrics.jsonl``: in the run folder, or for MLflow at ``tracking_uri``. ``shard`` divides weights, moments
    and the weights' average among several processes, for networks that are large for one.
    """

    preset: Literal["default", "published"] = "default"
    seed: int = 0
    epochs: int = Field(30, ge=1)
    batch_size: int = Field(64, ge=1)
    accumulate: int = Field(1, ge=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    gradient_clip: float | None = Field(1.0, gt=0)
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"
    warmup: float = Field(0.1, ge=0, lt=1)
    plateau_patience: int = Field(70, ge=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    balance: Literal["none", "weights", "sampler"] = "none"
    modality_dropout: float | None = Field(None, ge=0, le=1)
    ema: float | None = Field(0.99, gt=0, lt=1)
    monitor: Literal[
        "balanced_accuracy",
        "accuracy",
        "macro_f1",
        "macro_auroc",
        "loss",
        "robust_balanced_accuracy",
        "robust_accuracy",
        "robust_macro_f1",
        "robust_macro_auroc",
    ] = "balanced_accuracy"
    patience: int | None = Field(None, ge=1)
    augment: bool = True
    pretrain: PretrainConfig | None = None
    defense: DefenseConfig | None = None
    distill: DistillConfig | None = None
    track: tuple[Literal["tensorboard", "mlflow"], ...] = ()
    tracking_uri: str | None = None
    checkpoint_minutes: float = Field(1.0, ge=0)
    shard: bool = False
    device: str = "auto"

    @field_validator("track", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return tuple(dict.fromkeys([value] if isinstance(value, str) else value or ()))

    @field_validator("tracking_uri")
    @classmethod
    def _no_password(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "")
        # A run holds its configuration, and is passed on; a user of a web address may be a token.
        if parts.password or (parts.username and parts.scheme in ("http", "https")):
            raise ValueError("holds a password: give it as MLFLOW_TRACKING_PASSWORD, or as the database takes it")
        return value

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("defense") is not None:
            values = {"monitor": f"{ROBUST}balanced_accuracy"} | values
        if isinstance(values, dict) and values.get("preset") == "published":
            published = {
                "epochs": 200,
                "batch_size": 32,
                "optimizer": "adam",
                "learning_rate": 1e-4,
                "weight_decay": 0.0,
                "gradient_clip": None,
                "schedule": "plateau",
                "warmup": 0.0,
                "ema": None,
                "modality_dropout": 0.0,
                "balance": "sampler",
                "monitor": "loss",
                "patience": 80,
            }
            return published | values
        return values

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave a key that is not used out, so that runs and benchmarks of before there was one are still the same."""
        values: dict[str, Any] = handler(self)
        for key in ("distill", "track", "tracking_uri", "shard"):
            if not getattr(self, key):
                values.pop(key, None)
        return values

    @model_validator(mode="after")
    def _one_teacher(self) -> TrainConfig:
        if self.distill is not None and self.defense is not None:
            raise ValueError("'distill' and 'defense' are two ways of training: choose one")
        if self.shard and (self.distill is not None or self.defense is not None):
            raise ValueError("'shard' is of plain training: leave 'defense' and 'distill' out, or 'shard'")
        return self

    @model_validator(mode="after")
    def _robust_by_an_attack(self) -> TrainConfig:
        if self.monitor.startswith(ROBUST) and self.defense is None:
            raise ValueError(f"monitor {self.monitor} needs 'train.defense', whose attack it is measured under")
        return self


class EvaluationConfig(Section):
    """How to evaluate: draws of the bootstrap, bins of the calibration error, seed."""

    bootstrap: int = Field(1000, ge=0)
    bins: int = Field(15, ge=2)
    seed: int = 0
