"""The two nouns every room shares: what goes into a network and what is asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeAlias, TypeVar

ModalityKind: TypeAlias = Literal["image", "volume", "tabular"]
TaskKind: TypeAlias = Literal["binary", "multiclass", "multilabel", "ordinal"]

MODALITY_KINDS: tuple[str, ...] = ("image", "volume", "tabular")
TASK_KINDS: tuple[str, ...] = ("binary", "multiclass", "multilabel", "ordinal")


@dataclass(frozen=True)
class ModalitySpec:
    """A named input of a network.

    Args:
        name: Key of the modality in every dict.
        kind: ``image`` (B, C, H, W), ``volume`` (B, C, D, H, W) or ``tabular`` (B, C).
        channels: Image channels, or the number of encoded columns of a table.
        size: Spatial size in pixels, (H, W) or (D, H, W); None where the network does not need to know.
        mean: Per-channel mean of the training images in [0, 1], used by the network's first layer; None means 0.5.
        std: Per-channel standard deviation likewise; None means 0.25.

    Raises:
        ValueError: An unknown kind, no channel, or a size, mean or std of the wrong length.
    """

    name: str
    kind: ModalityKind = "image"
    channels: int = 1
    size: tuple[int, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.kind not in MODALITY_KINDS:
            raise ValueError(f"modality '{self.name}': kind '{self.kind}' is not one of {', '.join(MODALITY_KINDS)}")
        if self.channels < 1:
            raise ValueError(f"modality '{self.name}': channels must be at least 1, got {self.channels}")
        if self.size is not None and len(self.size) != self.spatial_dims:
            raise ValueError(
                f"modality '{self.name}': kind '{self.kind}' has {self.spatial_dims} spatial axes, got size {self.size}"
            )
        for label, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != self.channels:
                raise ValueError(
                    f"modality '{self.name}': {label} needs {self.channels} numbers (one a channel), got {len(values)}"
                )

    @property
    def spatial_dims(self) -> int:
        """Number of spatial axes: 2 for an image, 3 for a volume, 0 for a table."""
        return {"image": 2, "volume": 3, "tabular": 0}[self.kind]


@dataclass(frozen=True)
class TaskSpec:
    """A named question with its possible answers.

    Args:
        name: Key of the task in every dict.
        kind: ``binary`` and ``multiclass`` (one logit a class, softmax), ``multilabel`` (one logit a class, sigmoid)
            or ``ordinal`` (ordered classes, K-1 cumulative logits of P(y > k), sigmoid).
        classes: Class names in label order.

    Raises:
        ValueError: An unknown kind, repeated names, or a number of classes that does not fit the kind.
    """

    name: str
    classes: tuple[str, ...]
    kind: TaskKind = "multiclass"

    def __post_init__(self) -> None:
        if self.kind not in TASK_KINDS:
            raise ValueError(f"task '{self.name}': kind '{self.kind}' is not one of {', '.join(TASK_KINDS)}")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"task '{self.name}': a class name is repeated in {list(self.classes)}")
        least = {"binary": 2, "multiclass": 2, "multilabel": 1, "ordinal": 3}[self.kind]
        if len(self.classes) < least or (self.kind == "binary" and len(self.classes) != 2):
            raise ValueError(
                f"task '{self.name}': kind '{self.kind}' needs {'exactly' if self.kind == 'binary' else 'at least'} "
                f"{least} classes, got {list(self.classes)}"
            )

    @property
    def outputs(self) -> int:
        """Number of logits that a network gives for this task."""
        return len(self.classes) - 1 if self.kind == "ordinal" else len(self.classes)


Spec = TypeVar("Spec", ModalitySpec, TaskSpec)


def to_dict(spec: ModalitySpec | TaskSpec) -> dict[str, Any]:
    """Return a spec as plain values that JSON can hold.

    >>> to_dict(TaskSpec("tumour", ("no", "yes"), "binary"))
    {'name': 'tumour', 'classes': ['no', 'yes'], 'kind': 'binary'}
    """
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(spec).items()}


def from_dict(kind: type[Spec], values: Mapping[str, Any]) -> Spec:
    """Return the spec that ``to_dict`` wrote; unknown keys raise ValueError."""
    unknown = set(values) - {field.name for field in fields(kind)}
    if unknown:
        raise ValueError(f"{kind.__name__} has no field {', '.join(sorted(unknown))}")
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return kind(**plain)


def modality_specs(modalities: Mapping[str, int | ModalitySpec]) -> dict[str, ModalitySpec]:
    """Return full specs from ``{name: channels or ModalitySpec}``, in the given order.

    >>> modality_specs({"ct": 1})["ct"].channels
    1
    """
    return _specs(modalities, ModalitySpec, lambda name, count: ModalitySpec(name, channels=count))


def task_specs(tasks: Mapping[str, int | TaskSpec]) -> dict[str, TaskSpec]:
    """Return full specs from ``{name: number of classes or TaskSpec}``, in the given order.

    >>> task_specs({"tumour": 3})["tumour"].classes
    ('0', '1', '2')
    """
    return _specs(tasks, TaskSpec, lambda name, count: TaskSpec(name, tuple(str(k) for k in range(count))))


def _specs(given: Mapping[str, Any], kind: type[Spec], short: Any) -> dict[str, Spec]:
    if not given:
        raise ValueError(f"at least one {kind.__name__} is needed")
    specs: dict[str, Spec] = {}
    for name, value in given.items():
        spec = short(name, value) if isinstance(value, int) else value
        if not isinstance(spec, kind):
            raise TypeError(f"'{name}': expected an int or a {kind.__name__}, got {type(value).__name__}")
        if spec.name != name:
            raise ValueError(f"key '{name}' and the name '{spec.name}' of its {kind.__name__} differ")
        specs[name] = spec
    return specs
