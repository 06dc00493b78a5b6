"""How images lie in memory while they are attacked."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class Layout:
    """Puts inputs to a network with the channels of images beside one another, where it can be.

    Convolutions follow the layout of their input, and on a CPU they take up to a half less time with this one. A
    network that looks at its memory (``view``) in the other layout raises; from then on it gets its inputs as they are.
    """

    def __init__(self) -> None:
        self._plain = False

    def ask(self, model: nn.Module, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return task -> logits (B, outputs) of modality -> (B, ...)."""
        answer: dict[str, Tensor]
        if not self._plain and any(_gains(x) for x in inputs.values()):
            try:
                answer = model(channels_last(inputs), present)
                return answer
            except RuntimeError:  # one of the network's own is raised again below
                self._plain = True
        answer = model(inputs, present)
        return answer


def channels_last(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Lay images (B, C, H, W) on a CPU out with their channels beside one another; values and shapes stay.

    A single channel is as good in either layout, and has to be told by its strides.

    >>> import torch
    >>> channels_last({"ct": torch.rand(2, 1, 4, 5)})["ct"].stride()
    (20, 1, 5, 1)
    """
    return {name: _laid_out(x) if _gains(x) else x for name, x in inputs.items()}


def _gains(x: Tensor) -> bool:
    return x.dim() == 4 and x.device.type == "cpu"


def _laid_out(x: Tensor) -> Tensor:
    count, channels, height, width = x.shape
    values = x.permute(0, 2, 3, 1).reshape(count, height * width * channels)
    return values.view(count, height, width, channels).permute(0, 3, 1, 2)
