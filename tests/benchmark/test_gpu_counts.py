"""The floors of ``benchmarks/gpu.py`` are counted as by hand."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks/gpu.py"
N, C, SIDE = 2, 8, 4


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu"] = module  # where its dataclasses look for their names
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("groups", [1, 2, C])
def test_a_convolution(gpu: ModuleType, groups: int) -> None:
    layer = nn.Conv2d(C, C, 3, padding=1, groups=groups, bias=False)
    x = torch.rand(N, C, SIDE, SIDE)

    def answer() -> torch.Tensor:
        with torch.inference_mode():
            return torch.as_tensor(layer(x))

    def learn() -> None:
        layer(x.clone().requires_grad_()).sum().backward()

    flops = 2 * 9 * N * C * (C // groups) * SIDE**2
    a_map, kernel = 4 * N * C * SIDE**2, 4 * 9 * C * (C // groups)
    assert gpu.counted(answer) == (flops, 2 * a_map + kernel)
    # Backwards: reads both maps and the kernel, and writes the gradients of the input and of the kernel.
    assert gpu.counted(learn) == (3 * flops, 2 * a_map + kernel + 3 * a_map + 2 * kernel)


def test_a_matrix_product(gpu: ModuleType) -> None:
    layer, x = nn.Linear(C, 3, bias=False), torch.rand(N, C)

    def answer() -> torch.Tensor:
        with torch.inference_mode():
            return torch.as_tensor(layer(x))

    assert gpu.counted(answer) == (2 * N * C * 3, 4 * (N * C + C * 3 + N * 3))
