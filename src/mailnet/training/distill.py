"""Distillation: a small network learns from the labels and from what a trained, larger one answers and sees.

Both are shown the same augmented studies. The student's logits are drawn to the teacher's at a temperature, and which
studies of a batch look alike to its last features to which do to the teacher's. The latter needs no map between
features of two lengths that would have to be learnt and kept beside the network.

Sources: Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network", 2015; Beyer et al., "Knowledge
distillation: a good teacher is patient and consistent", CVPR 2022, for the same views; Tung and Mori,
"Similarity-preserving knowledge distillation", ICCV 2019, for the features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mailnet.bundle import Bundle, read_bundle
from mailnet.bundle.draws import average_draws
from mailnet.data.config import DistillConfig
from mailnet.data.study import StudyData
from mailnet.errors import ConfigError
from mailnet.nn.batch import Batch
from mailnet.nn.layers import channels_last, pool_mean
from mailnet.specs import ModalitySpec, TaskSpec
from mailnet.training.defense import Lesson, Losses


class Distillation:
    """A way of training, as a defence is one: each part's loss is one of the labels and one of the teacher.

    Args:
        settings: Of ``train.distill``.
        data: The studies that the student is trained on.
        device: Where it is trained.

    Raises:
        ConfigError: The teacher is of other modalities, tables or tasks.
        RunError: The teacher cannot be read.
    """

    replays = 1
    passes = 1

    def __init__(self, settings: DistillConfig, data: StudyData, device: torch.device) -> None:
        teacher = read_bundle(settings.teacher)
        _check(teacher, data, settings.teacher)
        self.settings = settings
        self.network = channels_last(teacher.model.to(device).eval()).requires_grad_(False)
        self.modalities = data.modalities

    def backward(self, lesson: Lesson) -> Losses:
        """See ``mailnet.training.defense.Defense``."""
        batch, settings = lesson.batch, self.settings
        with _watching(lesson.network, self.modalities, batch) as seen:
            logits = lesson.model(batch.inputs, batch.present)
        taught, looks = self._teach(batch)
        plain = lesson.plain(logits)
        losses = {
            task: (1 - settings.weight) * loss
            + settings.weight * lesson.shares[task] * divergence(spec, logits[task], taught[task], settings.temperature)
            for (task, loss), spec in zip(plain.items(), lesson.tasks.values(), strict=True)
        }
        total = lesson.mean(losses)
        shared = [name for name in seen if name in looks]
        if settings.features and shared:
            share = sum(lesson.shares.values()) / len(lesson.shares)
            unlike = torch.stack([dissimilarity(seen[name], looks[name]) for name in shared]).mean()
            total = total + settings.features * share * unlike
        lesson.backward(total)
        return losses

    def disturb(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Batch:
        """Nothing is disturbed."""
        return batch

    @torch.no_grad()
    def _teach(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the teacher's logits (B, outputs) of each task, and its features (n, C) of each image or volume."""
        average_draws(self.network)  # of a random teacher; others stay as they are
        with _watching(self.network, self.modalities, batch) as seen:
            logits: dict[str, Tensor] = self.network(batch.inputs, batch.present)
        return {task: values.float() for task, values in logits.items()}, seen


def divergence(task: TaskSpec, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the mean divergence KL(teacher, student) of softened answers, times the temperature squared.

    Of labels and of the thresholds of an ordinal task it is that of each by itself, averaged.

    Args:
        task: The task.
        student: Logits (B, outputs).
        teacher: Logits (B, outputs).
        temperature: Of both.

    >>> round(divergence(TaskSpec("t", ("a", "b")), torch.zeros(1, 2), torch.tensor([[0.0, 4.0]]), 2.0).item(), 3)
    1.311
    """
    student, teacher = student.float() / temperature, teacher / temperature
    if task.kind in ("binary", "multiclass"):
        # Over classes a sum, over studies a mean.
        found = functional.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), reduction="none", log_target=True)
        return found.sum(-1).mean() * temperature**2
    yes, no = functional.logsigmoid(teacher), functional.logsigmoid(-teacher)
    gap = yes.exp() * (yes - functional.logsigmoid(student)) + no.exp() * (no - functional.logsigmoid(-student))
    return gap.mean() * temperature**2


def dissimilarity(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over n studies of the squared distance between the rows of their similarities.

    Args:
        student: Features (n, C).
        teacher: Features (n, C'), of the same studies.
    """
    own, other = (functional.normalize(x.float() @ x.float().T, dim=1) for x in (student, teacher))
    return (own - other).square().sum(1).mean()


@contextmanager
def _watching(network: nn.Module, modalities: Mapping[str, ModalitySpec], batch: Batch) -> Iterator[dict[str, Tensor]]:
    """Yield what will hold image or volume -> (n, C), the means over space of its last features in a pass."""
    seen: dict[str, Tensor] = {}
    layers: Any = getattr(network, "feature_layers", dict)
    hooks = [
        several[-1].register_forward_hook(partial(_keep, seen, batch, name, place))
        for place, name in enumerate(modalities)
        if (several := layers().get(name))
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _keep(
    seen: dict[str, Tensor], batch: Batch, name: str, place: int, module: nn.Module, inputs: Any, output: Any
) -> None:
    if isinstance(output, Mapping):
        output = output.get(name)
    elif isinstance(output, list | tuple):
        output = output[place]
    if not isinstance(output, Tensor) or output.ndim < 3:
        return
    has = batch.present[name]
    vectors = pool_mean(output)
    seen[name] = vectors[has] if len(vectors) == len(has) else vectors


def _check(teacher: Bundle, data: StudyData, path: str) -> None:
    """Refuse a teacher that would not understand the student's studies."""
    remedy = "Train the teacher on this study, or give another one"
    tables, taught = ({name: state.to_dict() for name, state in of.items()} for of in (data.tables, teacher.tables))
    for noun, own, other in (
        ("modalities", _essence(data.modalities), _essence(teacher.modalities)),
        ("tasks", dict(data.tasks), dict(teacher.tasks)),
        ("tables", tables, taught),
    ):
        if own != other:
            raise ConfigError(f"train.distill.teacher is of other {noun}", file=path, remedy=remedy)


def _essence(modalities: Mapping[str, ModalitySpec]) -> list[tuple[Any, ...]]:
    return [(name, spec.kind, spec.channels, spec.size) for name, spec in modalities.items()]
