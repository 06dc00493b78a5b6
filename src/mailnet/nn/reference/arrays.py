"""Put the arrays of a recorded network or block into one of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from mailnet.nn.reference.robust import RPFConv

# Ours -> theirs. Theirs number modalities, tasks and stages by position in their names.
_RENAMES: tuple[tuple[str, str], ...] = (
    (r"trunks\.(\d+)\.", r"m\1."),
    (r"erlas\.(\d+)\.", r"erla\1."),
    (r"emcams\.(\d+)\.", r"emcam\1."),
    (r"heads\.(\d+)\.", r"head\1."),
    (r"alphas\.(\d+)$", r"alpha\1"),
)
# Not recorded: torch's own counter, the fixed filters of mode "off", and MAN's weight in EMCAM, which was 1.
_UNRECORDED = ("num_batches_tracked", "fixed_kernel", "noise_weight")


def load_arrays(model: nn.Module, arrays: Mapping[str, Any]) -> None:
    """Copy the ``w.*`` arrays of a recorded network or block into ``model``.

    ``m0``, ``m1`` and ``head0``, ``head1`` are the first and second modality and task of ``model``, whatever
    their names.

    Args:
        model: ``mail_reference`` or ``robust_mail_reference`` from ``create_model``, or one of their blocks.
        arrays: Array names -> arrays, for example an open ``numpy.load(path, allow_pickle=False)``; names that do not
            begin with ``w.`` are passed over.

    Raises:
        ValueError: Arrays are missing, left over or of another shape; every one of them is named and nothing is loaded.
    """
    given = {name.removeprefix("w."): torch.as_tensor(arrays[name]) for name in arrays if name.startswith("w.")}
    state = model.state_dict()
    wanted = {_their_name(model, name): tensor for name, tensor in state.items() if not name.endswith(_UNRECORDED)}
    problems = [f"missing: {_join(wanted.keys() - given)}"] if wanted.keys() - given else []
    problems += [f"left over: {_join(given.keys() - wanted)}"] if given.keys() - wanted else []
    problems += [
        f"w.{name} has shape {tuple(given[name].shape)}, the model has {tuple(wanted[name].shape)}"
        for name in sorted(wanted.keys() & given)
        if wanted[name].shape != given[name].shape
    ]
    if problems:
        raise ValueError(f"the arrays do not fit {type(model).__name__}; " + "; ".join(problems))
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(given[name])
        for name, tensor in state.items():
            if name.endswith("noise_weight"):
                tensor.fill_(1.0)


def _their_name(model: nn.Module, name: str) -> str:
    for ours, theirs in _RENAMES:
        name = re.sub(rf"(?:^|(?<=\.)){ours}", theirs, name)
    name = re.sub(r"local_scales\.(\d+)$", lambda match: _numbered("local_scale", int(match[1])), name)
    return f"train.{name}" if isinstance(model, RPFConv) else name


def _numbered(name: str, index: int) -> str:
    return name if index == 0 else f"{name}{index + 1}"


def _join(names: set[str]) -> str:
    return ", ".join(f"w.{name}" for name in sorted(names))
