"""Between our dicts and captum's tuples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from mailnet.explain.question import Question

CHUNK = 32  # studies that pass the network at once


@dataclass(frozen=True)
class Tuples:
    """A question as captum asks it: the inputs that are explained, and everything else.

    captum repeats what has a row a study, so masks, the class and inputs that are not explained travel as its
    ``additional_forward_args``, and no row loses what belongs to it.

    Args:
        question: What is asked.
    """

    question: Question

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What is explained."""
        return self.of(self.question.batch.inputs)

    @property
    def others(self) -> tuple[Tensor, ...]:
        """What is not: inputs, masks and the class."""
        batch = self.question.batch
        return (*(batch.inputs[name] for name in self._fixed), *batch.present.values(), self.question.classes())

    @property
    def chunk(self) -> int:
        """How often all studies of the batch may be repeated in one pass."""
        return max(CHUNK // len(self.question), 1)

    def forward(self, *tensors: Tensor) -> Tensor:
        """Return the scores (n,) of ``inputs`` changed and ``others`` repeated."""
        names = [*self.question.names, *self._fixed]
        inputs = dict(zip(names, tensors, strict=False))
        for name in self.question.images:
            inputs[name] = _in_range(inputs[name])
        masks = dict(zip(self.question.batch.present, tensors[len(names) : -1], strict=True))
        # captum insists that every input has a gradient, also one that a network does not look at.
        unused = sum(0 * inputs[name].flatten(1)[:, 0] for name in self.question.names)
        return self.question.score(inputs, masks, tensors[-1]) + unused

    def of(self, values: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Return what belongs to the modalities that are explained, in captum's order."""
        return tuple(values[name] for name in self.question.names)

    def maps(self, values: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Return image or volume -> (B, ...): captum's values (B, C, ...), channels summed, as densities."""
        found = self._named(values)
        return {name: found[name].sum(1) * found[name][0, 0].numel() for name in self.question.images}

    def columns(self, values: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Return table -> (B, F)."""
        found = self._named(values)
        return {name: found[name] for name in self.question.tables}

    def _named(self, values: tuple[Tensor, ...]) -> dict[str, Tensor]:
        named = {name: value.detach() for name, value in zip(self.question.names, values, strict=True)}
        return {name: self.question.spread(name, value) for name, value in named.items()}

    @property
    def _fixed(self) -> list[str]:
        return [name for name in self.question.batch.inputs if name not in self.question.names]


def _in_range(x: Tensor) -> Tensor:
    """Draw images that noise was added to back into [0, 1], which networks insist on; gradients pass as they are."""
    plain = x.detach()
    return x + (plain.clamp(0, 1) - plain) if bool((plain < 0).any() | (plain > 1).any()) else x
