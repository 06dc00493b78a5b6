"""Augmentation by a function of the user's own, such as a MONAI transform of dicts, one study at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mailnet.errors import ConfigError, RunError
from mailnet.files import read_json
from mailnet.nn.batch import Batch

Augment = Callable[[Any], Any]


def augment_studies(batch: Batch, augment: Augment, modalities: Collection[str], seed: int) -> Batch:
    """Return the batch with the images of each study changed together.

    Args:
        batch: The batch, on the CPU; its tensors are not changed.
        augment: Takes a dict, modality -> (C, H, W) or (C, D, H, W) in [0, 1] of those that the study has, and returns
            one with the same shapes; what leaves [0, 1] is clipped. What has ``set_random_state``, as transforms of
            MONAI, draws from ``seed``; otherwise torch's own random numbers are those of the step.
        modalities: The images and volumes.
        seed: Of this batch.

    Raises:
        ConfigError: It failed, or gave something else.
    """
    seeded = getattr(augment, "set_random_state", None)
    if seeded is not None:
        seeded(seed=seed % 2**32)
    inputs = {name: x.clone() if name in modalities else x for name, x in batch.inputs.items()}
    for row in range(len(batch.ids)):
        own = [name for name in inputs if name in modalities and bool(batch.present[name][row])]
        if not own:
            continue
        try:
            changed = augment({name: inputs[name][row].clone() for name in own})
        except Exception as error:  # whatever a user's own code raises
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            remedy = "Mend it; of MONAI, allow_missing_keys=True lets studies lack a modality"
            raise ConfigError(f"'augment' failed on a study that has {', '.join(own)} ({reason})", remedy=remedy) from (
                error
            )
        for name in own:
            inputs[name][row] = _checked(changed, name, inputs[name][row])
    return Batch(inputs, batch.present, batch.targets, batch.ids)


def described(augment: Any) -> str:
    """Return the names of a transform and its parts, for the record of a run.

    >>> described(dict)
    'dict'
    """
    parts = getattr(augment, "transforms", None)
    name = getattr(augment, "__name__", None) or type(augment).__name__
    return f"{name}({', '.join(described(part) for part in parts)})" if isinstance(parts, (list, tuple)) else name


def check_same_augment(run: Path, augment: Any) -> None:
    """Refuse to go on with a run whose studies were changed by another transform.

    Raises:
        RunError: It was, as far as the names of its parts tell.
    """
    if not (run / "run.json").is_file():
        return
    before, now = read_json(run / "run.json").get("augment"), None if augment is None else described(augment)
    if before != now:
        raise RunError(
            f"began with {f'the augment {before}' if before else 'no augment'}, now it is {now or 'absent'}",
            file=run,
            remedy="Give the same to train(augment=...), or choose another run folder",
        )


def _checked(changed: Any, name: str, before: Tensor) -> Tensor:
    if not isinstance(changed, Mapping) or name not in changed:
        found = f"'{name}' is gone" if isinstance(changed, Mapping) else f"a {type(changed).__name__}"
        raise ConfigError(f"'augment' must return a dict with the modalities it is given: {found}")
    after = torch.as_tensor(changed[name])
    after = after.as_tensor() if hasattr(after, "as_tensor") else after
    if after.shape != before.shape:
        raise ConfigError(
            f"'augment' makes {name} {list(after.shape)}, it was {list(before.shape)}",
            remedy="Crop and resize in 'prepare', or by the modality's 'size'",
        )
    if not bool(torch.isfinite(after).all()):
        raise ConfigError(f"'augment' makes {name} not finite", remedy="Mend the transform")
    return after.to(before.dtype).clamp(0, 1)
