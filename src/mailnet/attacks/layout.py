"""How images lie in memory while they are attacked, and how precisely a network computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Precision: TypeAlias = Literal["fp32", "bf16"]


def check_precision(given: str) -> None:
    """Refuse what is no precision.

    Raises:
        ValueError: It is not.
    """
    if given not in get_args(Precision):
        raise ValueError(f"precision '{given}' is not one of {', '.join(get_args(Precision))}")


class Layout:
    """Puts inputs to a network with the channels of images beside one another, where it can be.

    Convolutions follow the layout of their input, and on a CPU they take up to a half less time with this one. A
    network that looks at its memory (``view``) in the other layout raises; from then on it gets its inputs as they are.
    """

    def __init__(self) -> None:
        self._plain = False

    def ask(
        self,
        model: nn.Module,
        inputs: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        precision: Precision = "fp32",
    ) -> dict[str, Tensor]:
        """Return task -> logits (B, outputs) of modality -> (B, ...), float32 in any precision.

        In ``bf16`` layers that map a vector, such as the last ones, compute in float32 all the same: they cost next to
        nothing, and a logit that is rounded to three digits hides how little a search by questions gains at a time.

        Raises:
            ValueError: In ``bf16``, something in the network has no such form, or the device.
        """
        if precision == "fp32":
            return self._ask(model, inputs, present)
        first = next(iter(inputs.values()))
        try:
            with torch.autocast(first.device.type, torch.bfloat16), _VectorsInFull(len(first)):
                logits = self._ask(model, inputs, present)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise ValueError(f"{type(model).__name__} does not compute in bf16, only in fp32: {error}") from error
        return {name: value.float() for name, value in logits.items()}

    def _ask(self, model: nn.Module, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        answer: dict[str, Tensor]
        if not self._plain and any(_gains(x) for x in inputs.values()):
            try:
                answer = model(channels_last(inputs), present)
                return answer
            except RuntimeError:  # one of the network's own is raised again below
                self._plain = True
        answer = model(inputs, present)
        return answer


class _VectorsInFull(TorchFunctionMode):
    """Linear layers leave autocast where they map a vector a study; of more rows, they map places or tokens.

    Args:
        studies: How many studies there are.
    """

    def __init__(self, studies: int) -> None:
        super().__init__()
        self.studies = studies

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.linear:
            return self._linear(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if input.dim() != 2 or len(input) > self.studies:
            return functional.linear(input, weight, bias)
        with torch.autocast(input.device.type, enabled=False):
            return functional.linear(input.to(weight.dtype), weight, bias)


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
