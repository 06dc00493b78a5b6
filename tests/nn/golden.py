"""Golden files, and the replay of the random numbers that they record."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mailnet.nn.noise import NoiseSource


def read(folder: Path, name: str) -> dict[str, Any]:
    """Return a golden file's arrays."""
    with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def assert_close(actual: Tensor, expected: np.ndarray, tolerance: float, what: str) -> None:
    """Compare relative to the largest expected value."""
    assert tuple(actual.shape) == expected.shape, what
    error = float((actual.detach() - torch.from_numpy(expected)).abs().max() / np.abs(expected).max())
    assert error <= tolerance, f"{what}: relative error {error:.2e} is above {tolerance:.0e}"


class Replay(NoiseSource):
    """Hands out one layer's recorded numbers in order, and checks what they are asked for."""

    def __init__(self, layer: str, recorded: list[tuple[str, np.ndarray, float]]) -> None:
        super().__init__("sample")
        self.layer = layer
        self.recorded = recorded

    def draw(self, kind: str, shape: Sequence[int], std: float, like: Tensor) -> Tensor:  # type: ignore[override]
        assert self.recorded, f"{self.layer} draws more {kind} than recorded"
        expected_kind, values, expected_std = self.recorded.pop(0)
        assert (kind, tuple(shape)) == (expected_kind, values.shape), self.layer
        assert abs(std - expected_std) < 1e-6, f"{self.layer}: {kind} has std {std}, recorded {expected_std}"
        return torch.from_numpy(values)


def replay(model: nn.Module, arrays: dict[str, Any], root: str = "") -> list[Replay]:
    """Give each random layer its recorded numbers.

    The publication runs the modalities' layers interleaved; which numbers a layer gets is what counts, so they are
    found by its name.

    Args:
        model: A network, or a block that is recorded under the name ``root``.
        arrays: A golden file.
        root: Empty for a network.
    """
    recorded: dict[str, list[tuple[str, np.ndarray, float]]] = defaultdict(list)
    for key in sorted(arrays):
        if match := re.fullmatch(r"draw(\d+)\.(.+)\.(\w+)", key):
            number, layer, kind = match.groups()
            recorded[layer].append((kind, arrays[key], float(arrays[f"std{number}"])))
    sources = []
    for path, module in model.named_modules():
        if isinstance(getattr(module, "noise", None), NoiseSource):
            theirs = re.sub(r"^trunks\.", "m", re.sub(r"\berlas\.", "erla", re.sub(r"^emcams\.", "emcam", path)))
            layer = ".".join(part for part in (root, theirs) if part)
            module.noise = Replay(layer, recorded.pop(layer, []))  # type: ignore[assignment]
            sources.append(module.noise)
    assert not recorded, f"no layer draws {sorted(recorded)}"
    return sources  # type: ignore[return-value]
