"""Studies as an exported model is given them, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from mailnet.bundle import Bundle
from mailnet.bundle.passes import Passes, batches_of, hidden
from mailnet.data.dataset import StudyDataset
from mailnet.data.study import StudyData
from mailnet.nn.batch import Batch
from mailnet.nn.noise import NoiseMode, set_noise

Arrays: TypeAlias = dict[str, np.ndarray]
Answer: TypeAlias = Callable[[Mapping[str, np.ndarray]], Arrays]  # a graph's inputs by name -> its outputs by name
BATCH = 32


def arrays_of(batch: Batch, bundle: Bundle, masks: Sequence[str]) -> Arrays:
    """Return a graph's inputs of a batch: every modality, zeros where none of its studies has one.

    Args:
        batch: The studies.
        bundle: The model.
        masks: Modalities with a presence mask.
    """
    found = {}
    for name, spec in bundle.modalities.items():
        given = batch.inputs.get(name)
        empty = np.zeros((len(batch), spec.channels, *(spec.size or ())), np.float32)
        found[name] = empty if given is None else given.numpy()
    return found | {f"present.{name}": batch.present[name].numpy() for name in masks}


@dataclass(frozen=True)
class Studies:
    """Labelled studies of a split.

    Args:
        data: The studies.
        bundle: The model that they are for.
        masks: Modalities with a presence mask.
        split: Name of the split.
    """

    data: StudyData
    bundle: Bundle
    masks: Sequence[str]
    split: str

    def __len__(self) -> int:
        return len(self.data)

    def some(self, count: int) -> np.ndarray:
        """Return up to so many rows, evenly spread."""
        return np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int))

    def batch(self, rows: np.ndarray, without: Sequence[str] = ()) -> Batch:
        """Return studies, the named modalities of all of them absent."""
        return hidden(StudyDataset(self.data).batch(rows), without)

    def with_others(self, rows: np.ndarray, without: Sequence[str]) -> np.ndarray:
        """Return those of the rows that have a modality besides those named."""
        rest = [name for name in self.bundle.modalities if name not in without]
        return rows[np.any([self.data.present[name][rows] for name in rest], axis=0)]

    def ask(self, answer: Answer, rows: np.ndarray, size: int = BATCH, without: Sequence[str] = ()) -> Arrays:
        """Return output -> (n, ...) of an exported model, so many studies at a time."""
        parts = [
            answer(arrays_of(self.batch(rows[i : i + size], without), self.bundle, self.masks))
            for i in range(0, len(rows), size)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def ask_original(self, passes: Passes, rows: np.ndarray, without: Sequence[str] = ()) -> Arrays:
        """Return task -> (n, K) probabilities as the network gives them."""
        batches, place = batches_of(self.data, rows, BATCH)
        parts = [passes.answers(self.batch(own, without)) for own in batches]
        return {name: np.concatenate([part[name] for part in parts])[place] for name in parts[0]}


def original_passes(bundle: Bundle, noise: NoiseMode | None = None) -> Passes:
    """Return a bundle's own network as ``Predictor`` runs it, or with its noise off, on the CPU."""
    passes = Passes(bundle.model, bundle.model_name, bundle.modalities, bundle.tasks, "cpu")
    if noise == "off":
        set_noise(passes.model, "off")
        passes.noise = None
    return passes


def answer_of_program(module: Callable[..., Mapping[str, torch.Tensor]], modalities: Sequence[str]) -> Answer:
    """Return how a loaded package answers by the names that an ONNX file has."""

    def answer(arrays: Mapping[str, np.ndarray]) -> Arrays:
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        inputs = {name: tensors[name] for name in modalities}
        masks = {name.removeprefix("present."): x for name, x in tensors.items() if name not in inputs}
        with torch.no_grad():
            return {name: values.numpy() for name, values in module(inputs, masks).items()}

    return answer
