"""Distillation: what a student is drawn to, and that a training with a teacher goes through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from factory import Command
from mailnet.bundle import load
from mailnet.data.config import DistillConfig, TrainConfig, dump_config, load_config
from mailnet.data.dataset import StudyDataset
from mailnet.data.study import StudyData, load_study
from mailnet.errors import ConfigError
from mailnet.files import read_json
from mailnet.nn.registry import create_model
from mailnet.specs import TaskSpec
from mailnet.training.defense import Lesson
from mailnet.training.distill import Distillation, dissimilarity, divergence
from mailnet.training.losses import batch_losses
from runs import MakeRun

CPU = torch.device("cpu")


def studies(run: Path, cache: Path) -> StudyData:
    return load_study(load_config(run / "study.yaml"), cache=cache)


def lesson(data: StudyData, network: Any, gradients: list[torch.Tensor]) -> Lesson:
    batch = StudyDataset(data).batch(data.rows("train")[:12])
    return Lesson(
        batch, network, network, lambda logits: batch_losses(data.tasks, logits, batch.targets, {}, 0.0),
        lambda losses: torch.stack(list(losses.values())).mean(), dict.fromkeys(data.tasks, 1.0), {},
        lambda loss: gradients.append(loss), 0.5, 0,
    )  # fmt: skip


def test_divergence_is_that_of_softened_answers() -> None:
    student, teacher = torch.randn(5, 3), torch.randn(5, 3)
    p, q = (teacher / 3).softmax(1), (student / 3).softmax(1)
    found = divergence(TaskSpec("t", ("a", "b", "c")), student, teacher, 3.0)
    torch.testing.assert_close(found, 9 * (p * (p / q).log()).sum(1).mean())
    p, q = (teacher / 3).sigmoid(), (student / 3).sigmoid()
    each = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    for spec in (TaskSpec("t", ("a", "b", "c"), "multilabel"), TaskSpec("t", ("a", "b", "c", "d"), "ordinal")):
        torch.testing.assert_close(divergence(spec, student, teacher, 3.0), 9 * each.mean())
        assert divergence(spec, teacher, teacher, 3.0).abs() < 1e-6


def test_features_of_any_length_are_compared_by_who_resembles_whom() -> None:
    teacher = torch.randn(6, 10)
    turned = teacher @ torch.linalg.qr(torch.randn(10, 10)).Q
    assert dissimilarity(functional.pad(turned, (0, 4)), teacher) < 1e-8
    assert dissimilarity(torch.randn(6, 4), teacher) > 1e-2


def test_a_student_that_equals_its_teacher_learns_from_labels_alone(make_run: MakeRun, cache: Path) -> None:
    run = make_run("teacher")
    data, losses = studies(run, cache), list[torch.Tensor]()
    twin = load(run, "cpu").model
    made = lesson(data, twin, losses)
    Distillation(DistillConfig(teacher=str(run), weight=0.25), data, CPU).backward(made)
    with torch.no_grad():
        plain = made.mean(made.plain(twin(made.batch.inputs, made.batch.present)))
    assert losses[0].item() == pytest.approx(0.75 * plain.item(), rel=1e-4)


def test_every_part_of_the_loss_moves_the_student(make_run: MakeRun, cache: Path) -> None:
    run = make_run("teacher", options={"emcam": "true"})
    data = studies(run, cache)
    torch.manual_seed(1)
    student = create_model("mail", data.modalities, data.tasks, widths=(8, 16)).train()
    found = []
    for weight, features in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)):
        losses: list[torch.Tensor] = []
        torch.manual_seed(0)
        settings = DistillConfig(teacher=str(run), weight=weight, features=features)
        teaching = Distillation(settings, data, CPU)
        teaching.backward(lesson(data, student, losses))
        student.zero_grad()
        losses[0].backward()  # type: ignore[no-untyped-call]
        found.append(torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None]))
        assert all(p.grad is None for p in teaching.network.parameters())
    assert all(gradient.isfinite().all() and gradient.abs().max() > 0 for gradient in found)
    answers, both = found[0], found[1]
    assert functional.cosine_similarity(answers, both, dim=0) < 0.99
    assert functional.cosine_similarity(answers, found[2], dim=0) < 0.99


def test_a_teacher_of_another_study_is_refused(make_run: MakeRun, cache: Path) -> None:
    run = make_run("teacher")
    other = make_run("other", size=24)
    with pytest.raises(ConfigError, match=r"is of other modalities"):
        Distillation(DistillConfig(teacher=str(run)), studies(other, cache), CPU)


def test_settings(make_run: MakeRun) -> None:
    study = make_run("teacher") / "study.yaml"
    assert "distill" not in dump_config(load_config(study))  # as in runs of before there was such a key
    taught = load_config(study, ["train.distill.teacher=x"])
    assert "teacher: x" in dump_config(taught)
    with pytest.raises(ValueError, match="choose one"):
        TrainConfig.model_validate({"distill": {"teacher": "x"}, "defense": "pgd_at"})


def test_command(make_run: MakeRun, cache: Path, mailnet: Command, tmp_path: Path) -> None:
    run = make_run("teacher", options={"widths": "[16,32]"})
    out = tmp_path / "student"
    status, text, err = mailnet("distill", run, "--out", out, "--cache", cache, "--set", "train.epochs=1")
    assert (status, text.strip()) == (0, str(out)), err
    config = load_config(out / "study.yaml")
    assert config.model.options == {"width": "nano"}
    assert read_json(out / "run.json")["distill"]["teacher"] == str(run.resolve())
    assert load(out, "cpu").bundle.options == {"width": "nano"}
