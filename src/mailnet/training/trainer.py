"""The course of a training on one process: epochs, steps, validation, checkpoints.

Everything random is seeded by its place (seed, epoch, step, process, part), so a run that goes on from a checkpoint
makes the very steps that an uninterrupted one makes.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mailnet.bundle import save_bundle
from mailnet.data.config import SPLITS, StudyConfig
from mailnet.data.dataset import StudyDataset, iterate
from mailnet.data.study import StudyData
from mailnet.errors import RunError
from mailnet.nn.batch import Batch
from mailnet.training.augment import augment_batch
from mailnet.training.checkpoint import Checkpoints, load_weights
from mailnet.training.defense import Defense, Lesson, Losses, chosen_studies, robust_metrics
from mailnet.training.device import average_buffers, seed_of
from mailnet.training.hiding import hide_modalities
from mailnet.training.losses import batch_losses, class_weights, label_weights, weighted_mean
from mailnet.training.optim import Plateau, create_optimizer, learning_rate, set_learning_rate
from mailnet.training.plan import Part, Rows, epoch_steps, hidden_share, plan_epoch
from mailnet.training.progress import Progress
from mailnet.training.replicated import Replicated
from mailnet.training.run import TrainResult, finish_run, write_history
from mailnet.training.sharded import Sharded
from mailnet.training.together import Together
from mailnet.training.tracking import Tracking
from mailnet.training.user_transform import Augment, augment_studies
from mailnet.training.validate import predict_rows, validation_metrics


@dataclass
class State:
    """Where training is, as a checkpoint holds it beside weights and moments.

    Args:
        epoch: Epochs finished.
        step: Optimizer steps of the epoch after them that are done.
        updates: Updates of the weights' average.
        sums: Each task's sum of losses over the steps of the epoch, the mean over processes.
        seconds: Time that the epoch has taken.
        cpu_seconds: Of these, what this process had of the processors, all threads added.
        data_seconds: Of the seconds, those in which training waited for studies to be assembled.
        images: Images that went through the network in the epoch, on all processes.
        waited: Epochs since the best one.
        best: See ``TrainResult``.
        plateau: State of the learning rate's plateau.
        history: Lines of ``metrics.jsonl``.
    """

    epoch: int = 0
    step: int = 0
    updates: int = 0
    sums: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    data_seconds: float = 0.0
    images: int = 0
    waited: int = 0
    best: dict[str, Any] = field(default_factory=dict)
    plateau: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


class Trainer:
    """One training on one process.

    Args:
        config: The study.
        run: Run folder.
        data: The studies.
        network: The network, on the accelerator's device.
        accelerator: Of this process.
        together: This process and the others.
        progress: What reports.
        record: Device, precision and the like, for ``run.json``.
        tracking: What is told of every epoch.
        defense: What the network is trained against; None for plain training.
        augment: Changes studies in place of the presets of the modalities.
    """

    def __init__(
        self,
        config: StudyConfig,
        run: Path,
        data: StudyData,
        network: nn.Module,
        accelerator: Accelerator,
        together: Together,
        progress: Progress,
        record: dict[str, Any],
        tracking: Tracking,
        defense: Defense | None = None,
        augment: Augment | None = None,
    ) -> None:
        self.config, self.run, self.data, self.network = config, run, data, network
        self.accelerator, self.together, self.progress, self.record = accelerator, together, progress, record
        self.tracking = tracking
        self.settings, self.defense = config.train, defense
        self.replays = 1 if defense is None else defense.replays
        self.dataset = StudyDataset(data)
        self.hidden = hidden_share(self.settings, config.regime)
        self.importance = {name: task.weight for name, task in config.tasks.items()}
        self.presets = {
            name: section.augment
            for name, section in config.modalities.items()
            if section.kind != "tabular" and self.settings.augment and augment is None
        }
        self.augment = augment
        self.images = [name for name, section in config.modalities.items() if section.kind != "tabular"]
        self.held = (
            Sharded(network, accelerator, self.settings.ema, together)
            if self.settings.shard and together.several
            else Replicated(network, accelerator, self.settings.ema)
        )
        self.model = self.held.model
        self.optimizer = create_optimizer(network, self.settings)
        self.plateau = Plateau(self.settings.plateau_patience)
        weights = class_weights(data) if self.settings.balance == "weights" else {}
        self.weights = {name: values.to(accelerator.device) for name, values in weights.items()}
        self.labels = label_weights(data, weights)
        self.checkpoints = Checkpoints(run / "checkpoint")
        self.saved = time.monotonic()
        self.state = State()
        self.unsaved_best: dict[str, Tensor] = {}  # the best weights, where no checkpoint has them yet

    def run_all(self) -> TrainResult:
        """Train from the latest checkpoint, or from the beginning, to the end."""
        self._restore()
        patience = self.settings.patience
        while self.state.epoch < self.settings.epochs and (patience is None or self.state.waited < patience):
            self._epoch()
        if self.accelerator.is_main_process:
            self._finish()
        self.accelerator.wait_for_everyone()
        self.progress.done(self.state.best)
        return TrainResult(self.run, self.state.best, self.state.history)

    def _epoch(self) -> None:
        state, settings = self.state, self.settings
        steps = epoch_steps(self.data, settings, state.epoch)
        count = len(steps) * self.replays
        plan = list(
            plan_epoch(
                steps,
                settings,
                state.epoch,
                labels=self._labels,
                start=state.step,
                rank=self.accelerator.process_index,
                processes=self.accelerator.num_processes,
                apart=self.hidden,
                replays=self.replays,
            )
        )
        begun, worked = time.monotonic() - state.seconds, time.process_time() - state.cpu_seconds
        sums = self._sums()
        self.model.train()
        batches = self._awaited(iterate(self.dataset, (part.rows for part in plan)))
        for part, batch in zip(plan, batches, strict=True):
            sums += self._forward_backward(part, batch, (state.epoch + (state.step + 1) / count) / settings.epochs)
            state.images += sum(int(mask.sum()) for mask in batch.present.values())
            if not part.last:
                continue
            self._move(state.epoch * count + state.step, settings.epochs * count)
            state.step += 1
            self.progress.step(state.epoch, state.step, count)
            # Between replays a defence holds what no checkpoint has.
            if state.step < count and state.step % self.replays == 0 and self._is_due():
                several: Tensor = self.accelerator.gather(sums[None])
                state.sums, state.seconds = several.tolist(), time.monotonic() - begun
                state.cpu_seconds = time.process_time() - worked
                self._require_finite(several.flatten().tolist())
                self._checkpoint()
        sums = self.accelerator.reduce(sums, reduction="mean")
        labels = [self._labels(rows) for rows in steps]
        losses = {
            # A mean over steps that have labels of it.
            task: total / (max(sum(known[task] > 0 for known in labels), 1) * self.replays)
            for task, total in zip(self.data.tasks, sums.tolist(), strict=True)
        }
        state.seconds, state.cpu_seconds = time.monotonic() - begun, time.process_time() - worked
        self._end_epoch(losses)

    def _sums(self) -> Tensor:
        """Each task's sum of losses so far in the epoch, (T,): this process's own, where there are as many as then."""
        tasks, process = len(self.data.tasks), self.accelerator.process_index
        several = torch.tensor(self.state.sums or [0.0] * tasks).reshape(-1, tasks)
        own = several[process] if len(several) == self.accelerator.num_processes else several.mean(0)
        return own.to(self.accelerator.device)

    def _awaited(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield batches and note how long each was waited for."""
        while True:
            begun = time.monotonic()
            batch = next(batches, None)
            self.state.data_seconds += time.monotonic() - begun
            if batch is None:
                return
            yield batch

    def _labels(self, rows: Rows) -> dict[str, float]:
        """Task -> weight of the labels that rows have."""
        places = {task: self.dataset.label_rows(task, rows) for task in self.labels}
        return {task: float(weight[places[task][places[task] >= 0]].sum()) for task, weight in self.labels.items()}

    def _forward_backward(self, part: Part, batch: Batch, reached: float) -> Tensor:
        """Add a part's gradients; return what it adds to each task's loss of the step, (T,).

        Args:
            part: The part.
            batch: Its studies.
            reached: Share of the training that is done with this step.
        """
        # Of the network's own dropout and noise.
        torch.manual_seed(seed_of(part.seed, "replay", part.replay) if part.replay else part.seed)
        if self.augment is not None:
            batch = augment_studies(batch, self.augment, self.images, seed_of(part.seed, "augment"))
        if self.config.regime == "paired":
            batch = hide_modalities(batch, self.hidden, torch.Generator().manual_seed(seed_of(part.seed, "hiding")))
        generator = torch.Generator(self.accelerator.device).manual_seed(seed_of(part.seed, "augmentation"))
        batch = augment_batch(batch.to(self.accelerator.device), self.presets, generator)

        def plain(logits: Mapping[str, Tensor]) -> Losses:
            smoothing = self.settings.label_smoothing
            means = batch_losses(self.data.tasks, logits, batch.targets, self.weights, smoothing)
            return {task: mean * part.shares[task] for task, mean in means.items()}

        def mean(losses: Losses) -> Tensor:
            return weighted_mean(losses, self.importance)

        with self.held.adding_up(part.last):
            if self.defense is None:
                losses = plain(self.model(batch.inputs, batch.present))
                self.accelerator.backward(mean(losses))
            else:
                lesson = Lesson(
                    batch, self.network, self.model, plain, mean, part.shares, self.weights, self.accelerator.backward,
                    reached, seed_of(part.seed, "defense"), part.number, part.replay,
                )  # fmt: skip
                losses = self.defense.backward(lesson)
        return torch.stack(list(losses.values())).detach().float()

    def _move(self, step: int, steps: int) -> None:
        """Take optimizer step ``step`` of ``steps`` with the gradients that are there."""
        set_learning_rate(self.optimizer, learning_rate(self.settings, step, steps, self.plateau.factor))
        self.held.gradients_ready()
        if self.settings.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        average_buffers(self.network, self.accelerator)
        self.held.moved()

    def _end_epoch(self, losses: dict[str, float]) -> None:
        """Validate, keep the weights where they are the best, and write everything."""
        state, monitor = self.state, self.settings.monitor
        self._require_finite(losses.values())
        images = self._all_images()
        mean = sum(self.importance[task] * loss for task, loss in losses.items()) / sum(self.importance.values())
        line = {
            "epoch": state.epoch + 1,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train": {"loss": mean, "tasks": losses},
            "val": self._validate(),
            "seconds": round(state.seconds, 3),
            "cpu_seconds": round(state.cpu_seconds, 3),
            "data_seconds": round(state.data_seconds, 3),
            "images_per_second": round(images / state.seconds, 1),
        }
        validation = line["val"]
        now = {"epoch": line["epoch"], "monitor": monitor, "value": validation[monitor], "loss": validation["loss"]}
        better = not state.best or _rank(now) > _rank(state.best)
        state.best, state.waited = (now, 0) if better else (state.best, state.waited + 1)
        self.plateau.update(math.inf if now["loss"] is None else now["loss"])
        state.history.append(line)
        state.epoch, state.step, state.sums, state.images = state.epoch + 1, 0, [], 0
        state.seconds, state.cpu_seconds, state.data_seconds = 0.0, 0.0, 0.0
        if better:
            self.unsaved_best = self.held.weights()
        if self._is_due():
            self._checkpoint()
        if self.accelerator.is_main_process:
            write_history(self.run, state.history)
        self.tracking.epochs(state.history)
        self.progress.epoch(line, monitor, better)

    def _all_images(self) -> int:
        images = torch.tensor(float(self.state.images), device=self.accelerator.device)
        return int(self.accelerator.reduce(images))

    def _validate(self) -> dict[str, Any]:
        with self.held.evaluated() as network:
            return self._validated(network.eval())

    def _validated(self, network: nn.Module) -> dict[str, Any]:
        rows = self.data.rows("val")
        seed = seed_of(self.settings.seed, "validation")
        predicted = predict_rows(network, self.dataset, rows, self.accelerator, self.settings.batch_size, seed)
        self._require_finite(float(values.sum()) for values in predicted.values())
        labels = {task: values[rows] for task, values in self.data.labels.items()}
        found = validation_metrics(predicted, labels, self.data.tasks)
        if self.defense is None or self.settings.defense is None:
            return found
        rows = chosen_studies(rows, self.settings.defense.validation_studies, self.settings.seed)
        # An attack keeps what backward needs, as a part of a step does.
        size = max(self.settings.batch_size // (self.settings.accumulate * self.accelerator.num_processes), 1)
        robust = robust_metrics(self.defense, network, self.dataset, rows, self.accelerator, size, seed)
        tasks = {task: {**values, **robust["tasks"].get(task, {})} for task, values in found["tasks"].items()}
        return {**found, **robust, "tasks": tasks}

    def _require_finite(self, values: Iterable[float]) -> None:
        if not all(math.isfinite(value) for value in values):
            raise RunError(
                f"training diverged in epoch {self.state.epoch + 1}: the network gives no finite numbers",
                file=self.run,
                remedy="Lower train.learning_rate or train.gradient_clip, and train in another run folder",
            )

    def _is_due(self) -> bool:
        """Whether the first process wants a checkpoint, which all take part in."""
        return self.together.first_says(time.monotonic() - self.saved >= self.settings.checkpoint_minutes * 60)

    def _checkpoint(self) -> None:
        state = self.state
        state.plateau, state.updates = asdict(self.plateau), self.held.updates
        tensors, images = self.held.tensors(self.optimizer), self._all_images()
        if not self.accelerator.is_main_process:
            return
        if self.unsaved_best:
            self.checkpoints.save_best(state.best["epoch"], self.unsaved_best)
            self.unsaved_best = {}
        values = {**asdict(state), "images": images}
        self.checkpoints.save(f"epoch-{state.epoch}-step-{state.step}", tensors, values, state.best.get("epoch"))
        self.saved = time.monotonic()

    def _restore(self) -> None:
        found = self.checkpoints.load()
        if found is None:
            return
        tensors, values = found
        self.state = State(**values)
        self.held.restore(self.optimizer, tensors)
        self.held.updates = self.state.updates
        self.plateau = Plateau(**self.state.plateau)
        if self.accelerator.is_main_process:
            write_history(self.run, self.state.history)
        else:
            self.state.images = 0  # the first counts what all have had
        self.tracking.epochs(self.state.history)
        self.progress.say(f"going on after epoch {self.state.epoch}, batch {self.state.step}")

    def _finish(self) -> None:
        """Write the bundle with the best weights, and remove the checkpoint, which nothing needs any more."""
        network = self.held.whole()
        load_weights(network, self.unsaved_best or self.checkpoints.load_best(self.state.best["epoch"]))
        save_bundle(
            self.run / "bundle",
            network,
            self.config.model.name,
            self.config.model.options,
            self.config,
            self.data.tables,
            {split: len(self.data.rows(split)) for split in SPLITS},
        )
        # Before the run is finished, since nothing is done with one that is.
        self.tracking.finish(self.state.history, self.state.best)
        finish_run(self.run, self.state.best, self.record)
        shutil.rmtree(self.checkpoints.folder, ignore_errors=True)


def _rank(found: dict[str, Any]) -> tuple[float, float]:
    """Order of two epochs: the monitored metric, then the lower loss; what is not defined comes last."""
    loss = -math.inf if found["loss"] is None else -found["loss"]
    if found["monitor"] == "loss":
        return loss, loss
    return (-math.inf if found["value"] is None else found["value"]), loss
