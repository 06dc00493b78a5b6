"""A network, studies and the class that is asked about: what every method puts its changed inputs to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from mailnet.attacks.randomness import drawing, is_random
from mailnet.explain.score import Target, checked_target, class_score, predicted
from mailnet.nn.batch import Batch
from mailnet.nn.heads import probabilities
from mailnet.nn.noise import get_noise, mean_logits
from mailnet.nn.registry import Network
from mailnet.specs import ModalitySpec, TaskSpec


class Question:
    """Why does this network say this of these studies?

    A draw of a random network is a network whose numbers stay: all passes of a draw use the same ones, for every study,
    so that what a method adds, hides or integrates is compared within one network. The numbers of a draw follow from
    which modalities a batch has, since only layers that run draw.

    Args:
        model: The network, in evaluation mode.
        batch: The studies; they are moved to the network's device.
        task: The task.
        target: The class, see ``checked_target``; None for the one that is predicted, of the mean over draws.
        draws: Draws of a random network.
        generator: Of all random numbers; None means one seeded with 0.
        modalities: What is explained; None for all.

    Raises:
        ValueError: An unknown task, class or modality, or several draws of a network that is not random.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Batch,
        task: str,
        target: Target | None = None,
        *,
        draws: int = 1,
        generator: torch.Generator | None = None,
        modalities: Sequence[str] | None = None,
    ) -> None:
        network = cast("Network", model)
        if task not in network.tasks:
            raise ValueError(f"unknown task '{task}'; the network has {', '.join(network.tasks)}")
        if draws < 1:
            raise ValueError(f"draws must be at least 1, got {draws}")
        first = next((tensor for tensor in [*model.parameters(), *model.buffers()]), None)
        batch = batch if first is None else batch.to(first.device)
        self.model, self.batch, self.draws = model, batch, draws
        self.specs: dict[str, ModalitySpec] = network.modalities
        self.task: TaskSpec = network.tasks[task]
        self.generator = generator if generator is not None else torch.Generator().manual_seed(0)
        if unknown := sorted(set(modalities or ()) - set(self.specs)):
            raise ValueError(f"unknown modality '{unknown[0]}'; the network has {', '.join(self.specs)}")
        chosen = self.specs if modalities is None else modalities
        # Explained are those of which there is anything; the others of the batch get zeros.
        self.asked = [name for name in self.specs if name in chosen and name in batch.inputs]
        self.names = [name for name in self.asked if bool(batch.present[name].any())]
        if not self.names:
            raise ValueError(f"no study has what is to be explained: {', '.join(chosen)}")
        self.images = [name for name in self.names if self.specs[name].spatial_dims]
        self.tables = [name for name in self.names if not self.specs[name].spatial_dims]
        self.random = self._is_random()
        if draws > 1 and not self.random:
            raise ValueError(f"{type(model).__name__} draws no random numbers: draws=1")
        self._seeds = _integers(self.generator, draws)
        self.draw = 0
        self._clean: dict[int, Tensor] = {}  # draw -> (B,)
        self.device = batch.inputs[self.names[0]].device
        self.target = None if target is None else checked_target(self.task, target, len(batch), self.device)
        if self.target is None and draws > 1:
            self.target = self.probabilities(batch).argmax(1).to(self.device)

    def seed(self) -> int:
        """Return a seed for random numbers that are not drawn from the generator itself."""
        return _integers(self.generator, 1)[0]

    def __len__(self) -> int:
        return len(self.batch)

    def each_draw(self) -> Iterator[int]:
        """Go through the draws, each in its turn the one at hand; afterwards that is the first."""
        for draw in range(self.draws):
            self.draw = draw
            yield draw
        self.draw = 0

    def logits(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the task's logits (n, outputs) of the draw at hand.

        Args:
            inputs: Modality -> (n, ...).
            present: Modality -> (n,) bool; None for the batch's.
        """
        with self._held():
            answer = self.model(dict(inputs), dict(self.batch.present if present is None else present))
        logits: Tensor = answer[self.task.name]
        return logits.float()

    def score(
        self,
        inputs: Mapping[str, Tensor],
        present: Mapping[str, Tensor] | None = None,
        target: Tensor | None = None,
    ) -> Tensor:
        """Return the log-odds (n,) of the class; where none was given, the first call decides by what it sees.

        Args:
            inputs: As of ``logits``.
            present: As of ``logits``.
            target: (n,) classes; None for those of the batch.
        """
        logits = self.logits(inputs, present)
        return class_score(self.task, logits, self._target(logits) if target is None else target)

    def clean_score(self, inputs: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the score (B,) of the studies as they are, of the draw at hand; asked once.

        Args:
            inputs: The batch's, where the pass itself is wanted, as it is where hooks watch it, with gradients or
                without; the network is then asked again.
        """
        if inputs is not None or self.draw not in self._clean:
            with torch.set_grad_enabled(inputs is not None and torch.is_grad_enabled()):
                found = self.score(self.batch.inputs if inputs is None else inputs)
            self._clean[self.draw] = found.detach()
            return found
        return self._clean[self.draw]

    def classes(self) -> Tensor:
        """Return (B,), the class of each study."""
        if self.target is None:
            self.clean_score()
        assert self.target is not None
        return self.target

    @torch.no_grad()
    def probabilities(self, batch: Batch) -> Tensor:
        """Return the probabilities (n, K) of other studies, the mean over draws, on the CPU."""
        studies = batch.to(self.device)
        several = []
        for _ in self.each_draw():
            several.append({self.task.name: self.logits(studies.inputs, studies.present)})
        mean = mean_logits(several, {self.task.name: self.task})[self.task.name]
        return probabilities(self.task, mean).cpu()

    def spread(self, name: str, rows: Tensor) -> Tensor:
        """Return (B, ...) with the rows of the studies that have a modality in their places, zeros for the others.

        Args:
            name: The modality.
            rows: (n, ...) of those that have it, or (B, ...) of all, of which those are taken.
        """
        here = self.batch.present[name].to(rows.device, torch.bool)
        if len(rows) == len(here):
            return torch.where(here.view(-1, *(1,) * (rows.ndim - 1)), rows, torch.zeros_like(rows))
        return rows.new_zeros(len(here), *rows.shape[1:]).index_copy(0, here.nonzero()[:, 0], rows)

    def _target(self, logits: Tensor) -> Tensor:
        if self.target is None:
            self.target = predicted(self.task, logits)
        return self.target

    def _is_random(self) -> bool:
        source = get_noise(self.model)
        if source is not None:
            return source.mode != "off"
        return self.draws > 1 and is_random(self.model, self.batch.inputs, self.batch.present)

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Let the network draw the numbers of the draw at hand, those of every study alike."""
        if not self.random:
            yield
            return
        with drawing(self.model, "sample", torch.Generator().manual_seed(self._seeds[self.draw])):
            if (source := get_noise(self.model)) is not None:
                source.shared = True
            yield


def _integers(generator: torch.Generator, count: int) -> list[int]:
    found: list[int] = torch.randint(2**62, (count,), generator=generator, device=generator.device).tolist()
    return found
