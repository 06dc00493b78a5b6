"""A start without labels: trunks learn to tell the training studies' images apart before they meet a task.

Of every image two views are made. A throw-away head projects their features, and the two shall be more alike than any
view of another image of the batch. Each modality learns alone, so that no fusion gives a view away, and modalities of
one study are not drawn together: a fusion lives on what they do not share.

Source: Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", ICML
2020 (SimCLR).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mailnet.data.config import StudyConfig
from mailnet.data.dataset import StudyDataset, iterate
from mailnet.data.study import StudyData
from mailnet.errors import ConfigError, RunError
from mailnet.files import read_json, write_json
from mailnet.nn.layers import key
from mailnet.nn.peers.backbones import ENCODERS as BACKBONES
from mailnet.training.augment import PRESETS, VOLUME_PRESETS, augment, random_resized_crop
from mailnet.training.checkpoint import Checkpoints, load_weights
from mailnet.training.device import average_buffers, average_gradients, seed_of
from mailnet.training.losses import nt_xent
from mailnet.training.optim import create_optimizer, learning_rate, set_learning_rate
from mailnet.training.plan import Rows
from mailnet.training.progress import SECONDS_BETWEEN_LINES, Progress

SMALLEST = 0.5  # share of a side that a view keeps at least; smaller parts often miss what a diagnosis rests on
# Networks of the registry that can be pre-trained; any other with a method ``encode`` can too.
ENCODERS = (
    *("mail", "robust_mail", "pni_mail", "single_modality", "late_fusion"),
    *(f"two_branch_{encoder}" for encoder in BACKBONES),
)
RECORD = "pretraining.json"


@runtime_checkable
class Encoder(Protocol):
    """A network that gives its features, modality -> (n, C), of the n studies that have the modality."""

    def encode(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class _Part:
    """Images of one modality that are told apart from each other.

    Args:
        name: The modality.
        rows: (n,) row numbers.
        last: Whether the optimizer moves after this part.
        seed: Of everything random that happens to the part.
    """

    name: str
    rows: Rows
    last: bool
    seed: int


def pretraining_seconds(run: Path) -> float:
    """Return how long a run was pre-trained, 0 where it was not."""
    return float(read_json(run / RECORD)["seconds"]) if (run / RECORD).is_file() else 0.0


class Pretraining:
    """The pre-training of a network on one process; with several, each tells the images of its own share apart.

    Args:
        config: The study; ``train.pretrain`` is set.
        data: The studies, of which only images of training ones are used.
        network: The network, on the accelerator's device.
        accelerator: Of this process.

    Raises:
        ConfigError: The network cannot be asked for features, encodes no image, or a batch has too few images.
    """

    def __init__(self, config: StudyConfig, data: StudyData, network: nn.Module, accelerator: Accelerator) -> None:
        if config.train.pretrain is None:
            raise ValueError("train.pretrain is not set")
        if not isinstance(network, Encoder):
            raise ConfigError(
                f"the network '{config.model.name}' cannot be pre-trained",
                remedy=f"Leave train.pretrain out, or choose one of {', '.join(ENCODERS)}",
            )
        self.config, self.train, self.settings = config, config.train, config.train.pretrain
        self.network, self.encode, self.accelerator = network, network.encode, accelerator
        self.dataset = StudyDataset(data)
        self.names = list(data.modalities)
        rows = data.rows("train")
        images = {name: rows[data.present[name][rows]] for name, m in data.modalities.items() if m.kind != "tabular"}
        self.sizes = self._measure(images)  # modality -> C
        self.rows = {name: images[name] for name in self.sizes}
        self.steps = sum(len(self._divided(own)) for own in self.rows.values())  # an epoch

    def run(self, run: Path, progress: Progress) -> None:
        """Give the network weights that were learnt without labels, by an earlier start of the run or now.

        Args:
            run: Run folder; it will hold ``pretraining.json``, and the weights in ``checkpoint/`` until the run ends.
            progress: What reports.

        Raises:
            RunError: The pre-training diverged, or the folder cannot be written.
        """
        checkpoints = Checkpoints(run / "checkpoint")
        known = checkpoints.load_start()
        if known is not None:
            load_weights(self.network, known)
            return
        begun = time.monotonic()
        losses = self._learn(run, progress)
        if self.accelerator.is_main_process:
            counts = {name: len(own) for name, own in self.rows.items()}
            seconds = round(time.monotonic() - begun, 3)
            write_json(run / RECORD, {"images": counts, "losses": losses, "seconds": seconds})
            checkpoints.save_start(self.network.state_dict())  # last: with it the pre-training counts as done
        self.accelerator.wait_for_everyone()

    def _learn(self, run: Path, progress: Progress) -> list[dict[str, float]]:
        """Train, and return each modality's mean loss in every epoch."""
        rate = self.settings.learning_rate or self.train.learning_rate
        train = self.train.model_copy(update={"learning_rate": rate, "schedule": "cosine"})
        torch.manual_seed(seed_of(train.seed, "projection"))
        heads = {
            key(name): nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, self.settings.projection))
            for name, size in self.sizes.items()
        }
        learner = nn.ModuleDict({"network": self.network, "heads": nn.ModuleDict(heads).to(self.accelerator.device)})
        learner.train()
        optimizer = create_optimizer(learner, train)
        counts = ", ".join(f"{len(own)} of {name}" for name, own in self.rows.items())
        progress.say(f"pre-training without labels on images: {counts}")
        history, step, told = [], 0, time.monotonic()
        for epoch in range(self.settings.epochs):
            sums = {name: torch.zeros((), device=self.accelerator.device) for name in self.rows}
            parts = list(self._parts(epoch))
            batches = iterate(self.dataset, (self._alone(part.name, part.rows) for part in parts))
            for part, batch in zip(parts, batches, strict=True):
                x = batch.inputs[part.name].to(self.accelerator.device)
                loss = self._loss(part, x, heads[key(part.name)]) / train.accumulate
                self.accelerator.backward(loss)
                sums[part.name] += loss.detach()
                if not part.last:
                    continue
                average_gradients(learner, self.accelerator)
                set_learning_rate(optimizer, learning_rate(train, step, self.steps * self.settings.epochs))
                if train.gradient_clip is not None:
                    nn.utils.clip_grad_norm_(learner.parameters(), train.gradient_clip)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                average_buffers(self.network, self.accelerator)
                step += 1
            history.append({name: self._mean(total, name) for name, total in sums.items()})
            if not all(math.isfinite(loss) for loss in history[-1].values()):
                raise RunError(
                    f"pre-training diverged in epoch {epoch + 1}: the network gives no finite numbers",
                    file=run,
                    remedy="Lower train.pretrain.learning_rate, and train in another run folder",
                )
            if epoch + 1 == self.settings.epochs or time.monotonic() - told > SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                shown = ", ".join(f"{name} {loss:.4f}" for name, loss in history[-1].items())
                progress.say(f"pre-training, epoch {epoch + 1}/{self.settings.epochs}: loss of {shown}")
        return history

    def _loss(self, part: _Part, x: Tensor, head: nn.Module) -> Tensor:
        torch.manual_seed(part.seed)  # of the network's own dropout and noise
        generator = torch.Generator(x.device).manual_seed(seed_of(part.seed, "views"))
        views = torch.cat([self._view(part.name, x, generator) for _ in range(2)])  # (2n, C, ...)
        with self.accelerator.autocast():
            projected = head(self.encode({part.name: views})[part.name])  # (2n, P)
        first, second = projected.float().chunk(2)
        return nt_xent(first, second, self.settings.temperature)

    def _view(self, name: str, x: Tensor, generator: torch.Generator) -> Tensor:
        section: Any = self.config.modalities[name]
        if self.train.augment:
            x = augment(x, (VOLUME_PRESETS if x.ndim == 5 else PRESETS)[section.augment], generator)
        return random_resized_crop(x, SMALLEST, generator)

    def _parts(self, epoch: int) -> Iterator[_Part]:
        """Yield what this process takes in an epoch, a modality after the other."""
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        for name, own in self.rows.items():
            random = np.random.default_rng(seed_of(self.train.seed, "pretraining", epoch, name))
            for step, rows in enumerate(self._divided(random.permutation(own))):
                share = np.array_split(rows, processes)[rank]
                for number, images in enumerate(np.array_split(share, self.train.accumulate)):
                    seed = seed_of(self.train.seed, "pretraining", epoch, name, step, rank, number)
                    yield _Part(name, images, number == self.train.accumulate - 1, seed)

    def _divided(self, rows: Rows) -> list[Rows]:
        return np.array_split(rows, max(-(-len(rows) // self.train.batch_size), 1))

    def _mean(self, total: Tensor, name: str) -> float:
        mean: Tensor = self.accelerator.reduce(total, reduction="mean")
        return float(mean) / len(self._divided(self.rows[name]))

    def _alone(self, name: str, rows: Rows) -> Rows:
        """Return studies without their other modalities, (n, M), as companions of the unpaired regime."""
        alone = np.full((len(rows), len(self.names)), -1)
        alone[:, self.names.index(name)] = rows
        return alone

    def _measure(self, images: dict[str, Rows]) -> dict[str, int]:
        """Return the number of features of each modality that the network encodes; check that there is what it takes.

        Args:
            images: Modality -> rows of its training images.
        """
        least = 2 * self.accelerator.num_processes * self.train.accumulate
        sizes = {}
        self.network.eval()
        for name, rows in images.items():
            inputs = self.dataset.batch(self._alone(name, rows[:2])).to(self.accelerator.device).inputs
            with torch.inference_mode():
                found = self.encode(inputs) if inputs else {}
            if name not in found:
                continue
            if (smallest := min(len(step) for step in self._divided(rows))) < least:
                raise ConfigError(
                    f"pre-training needs two images in each part of a batch, {least} in all; {smallest} are too few",
                    modality=name,
                    remedy="Raise train.batch_size, lower train.accumulate, or leave train.pretrain out",
                )
            sizes[name] = found[name].shape[1]
        self.network.train()
        if not sizes:
            raise ConfigError("there is no image to pre-train on", remedy="Leave train.pretrain out")
        return sizes
