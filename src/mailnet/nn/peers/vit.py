"""Vision transformer: an image or volume as a sequence of patches, and blocks of self-attention over them.

Adapted: patches of about an eighth of the image along each axis unless said otherwise, so that small images keep
enough of them; an image that is no multiple of the patch is padded by its mean; volumes; positions are interpolated
where an image has another size than the specification says.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, arXiv 2010.11929; the smaller sizes are those of
Touvron et al., "Training data-efficient image transformers", ICML 2021, arXiv 2012.12877.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mailnet.nn.layers import InputNorm, resize
from mailnet.specs import ModalitySpec

HEAD = 64  # width of an attention head, as published
MLP_RATIO = 4
INIT_STD = 0.02
PATCHES = 8  # wanted along each axis


def fitted_patch(size: Sequence[int]) -> tuple[int, ...]:
    """Return the patch that cuts each axis into about eight.

    >>> fitted_patch((64, 96)), fitted_patch((28, 28)), fitted_patch((3, 128))
    ((8, 12), (4, 4), (1, 16))
    """
    return tuple(max(round(pixels / PATCHES), 1) for pixels in size)


class PatchEmbedding(nn.Module):
    """An image or volume in [0, 1] as tokens: a class token, then its patches, each with its position.

    Args:
        spec: The modality; an unknown size counts as 64 pixels along each axis.
        width: Length of a token.
        patch: Pixels of a patch along each axis; None for a fitted one.

    Raises:
        ValueError: A patch of the wrong number of axes, or below 1.
    """

    def __init__(self, spec: ModalitySpec, width: int, patch: Sequence[int] | None = None) -> None:
        super().__init__()
        size = spec.size or (64,) * spec.spatial_dims
        self.patch = tuple(patch) if patch is not None else fitted_patch(size)
        if len(self.patch) != len(size) or min(self.patch) < 1:
            raise ValueError(
                f"modality '{spec.name}': patch needs {len(size)} positive numbers, one an axis, got {list(self.patch)}"
            )
        self.grid = tuple(-(-pixels // step) for pixels, step in zip(size, self.patch, strict=True))
        self.norm = InputNorm(spec)
        convolution: Callable[..., nn.Module] = nn.Conv2d if spec.spatial_dims == 2 else nn.Conv3d
        self.project = convolution(spec.channels, width, self.patch, stride=self.patch)
        self.cls = nn.Parameter(_normal(1, 1, width))
        self.position = nn.Parameter(_normal(1, 1 + math.prod(self.grid), width))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 1 + patches, width) from (B, C, ...)."""
        x = self.norm(x)
        padding: list[int] = []
        for pixels, step in zip(reversed(x.shape[2:]), reversed(self.patch), strict=True):
            padding += (0, -pixels % step)
        if any(padding):
            x = functional.pad(x, padding)  # 0 is the mean, since x is normalised
        x = self.project(x)  # (B, width, *grid)
        tokens = x.flatten(2).transpose(1, 2)
        cls = self.cls.expand(x.shape[0], -1, -1)
        return torch.cat([cls, tokens], 1) + self._positions(x.shape[2:])

    def _positions(self, grid: Sequence[int]) -> Tensor:
        if tuple(grid) == self.grid:
            return self.position
        maps = self.position[:, 1:].transpose(1, 2).reshape(1, -1, *self.grid)
        return torch.cat([self.position[:, :1], resize(maps, grid).flatten(2).transpose(1, 2)], 1)


class Attention(nn.Module):
    """Self-attention with several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) -> (B, T, width)."""
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, T, d)
        y = functional.scaled_dot_product_attention(query, key, value)
        projected: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return projected


class Block(nn.Module):
    """A pre-norm transformer block: self-attention and a two-layer perceptron, each with a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, MLP_RATIO * width), nn.GELU(), nn.Linear(MLP_RATIO * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) -> (B, T, width)."""
        x = x + self.attention(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class Transformer(nn.Module):
    """Tokens, blocks, and a norm at the end; its answer is the class token.

    Args:
        embedding: Gives tokens (B, T, width), the class token first.
        width: Length of a token; a head for every 64, at least one.
        depth: Number of blocks.

    Raises:
        ValueError: A depth below 1, or a width that the heads do not divide.
    """

    def __init__(self, embedding: nn.Module, width: int, depth: int) -> None:
        super().__init__()
        heads = max(width // HEAD, 1)
        if depth < 1:
            raise ValueError(f"depth must be at least 1, got {depth}")
        if width % heads:
            raise ValueError(f"a token's width must be below {2 * HEAD} or a multiple of {HEAD}, got {width}")
        self.embedding = embedding
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=INIT_STD)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, width)."""
        tokens = self.embedding(x)
        for block in self.blocks:
            tokens = block(tokens)
        return self.answer(tokens)

    def answer(self, tokens: Tensor) -> Tensor:
        """Return the class token (B, width) of what the last block gave."""
        answer: Tensor = self.norm(tokens[:, 0])
        return answer


def _normal(*shape: int) -> Tensor:
    return nn.init.trunc_normal_(torch.empty(shape), std=INIT_STD)
