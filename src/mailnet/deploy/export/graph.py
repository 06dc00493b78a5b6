"""What is exported: a network with its calibration and, where foreign studies are told by them, its early features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mailnet.bundle import Bundle
from mailnet.deploy.export.calibration import Calibration
from mailnet.deploy.export.combinations import Pass, code_of
from mailnet.deploy.export.noise import freeze_draws, restart_draws
from mailnet.nn.heads import probabilities
from mailnet.nn.layers import key
from mailnet.nn.noise import NoiseMode, get_noise, set_noise
from mailnet.specs import ModalitySpec


class Answers(nn.Module):
    """A network whose outputs are answers.

    Args:
        bundle: The network and what goes with it; its noise is set as asked for.
        noise: ``mean``, ``off`` or ``sample`` of a random network, None of another one.
        absent: Whether a modality may be absent; the graph then has a presence mask for each.
    """

    def __init__(self, bundle: Bundle, noise: NoiseMode | None, absent: bool) -> None:
        super().__init__()
        self.network = bundle.model.eval()
        self.modalities, self.tasks = bundle.modalities, bundle.tasks
        self.names = list(bundle.modalities) if absent else []
        self.state: Pass | None = None
        if noise == "mean":
            self.state = freeze_draws(self.network, bundle.modalities, absent)
        elif noise is not None:
            set_noise(self.network, noise)
        fitted = {} if bundle.reliability is None else bundle.reliability.calibrators
        self.calibration = nn.ModuleDict({key(task): Calibration(one) for task, one in fitted.items()})
        self.layers = bundle.foreign.layers if bundle.foreign is not None and bundle.foreign.needs_features else {}

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what the exported graph gives, in its order.

        Args:
            inputs: Modality -> (N, C, ...) in [0, 1], or (N, F); every modality, absent ones with any numbers.
            present: Modality -> (N,) bool; empty where none may be absent.

        Returns:
            Task -> (N, K) calibrated; ``raw.<task>`` -> (N, K) as the network gives it; ``features.<modality>`` ->
            (N, C), NaN where the modality is absent.
        """
        count = next(iter(inputs.values())).shape[0]
        here = present
        if self.state is not None:
            restart_draws(self.network)
            code = code_of([present[name] for name in self.names]) if self.names else None
            self.state.code = torch.zeros(count, dtype=torch.int64) if code is None else code
            inputs, here = ({name: self.state.repeat(x) for name, x in of.items()} for of in (inputs, present))
        with _Features(self.network, self.modalities, self.layers) as watch:
            # Of a random network's draws each gives all of their average.
            logits = {name: values[:count] for name, values in self.network(inputs, here or None).items()}
        raw = {name: probabilities(spec, logits[name].float()) for name, spec in self.tasks.items()}
        calibrated = {
            name: self.calibration[key(name)](values) if key(name) in self.calibration else values.clone()
            for name, values in raw.items()
        }
        features = watch.features()
        if self.state is not None:
            features = {name: self.state.apart(values).mean(0) for name, values in features.items()}
        found = {name: _known(values, present.get(name)) for name, values in features.items()}
        return {
            **calibrated,
            **{f"raw.{name}": values for name, values in raw.items()},
            **{f"features.{name}": values for name, values in found.items()},
        }


@dataclass(frozen=True)
class Names:
    """Names of a graph's inputs and outputs, in order.

    Args:
        inputs: Modalities, then their presence masks.
        outputs: Of tasks, then ``raw.`` and ``features.``.
    """

    inputs: list[str]
    outputs: list[str]

    @staticmethod
    def of(answers: Answers) -> Names:
        """Return those of a network.

        Raises:
            ValueError: A modality and a task have one name.
        """
        inputs = [*answers.modalities, *(f"present.{name}" for name in answers.names)]
        outputs = [*answers.tasks, *(f"raw.{name}" for name in answers.tasks)]
        outputs += [f"features.{name}" for name, several in answers.layers.items() if several]
        if twice := sorted(set(inputs) & set(outputs)):
            raise ValueError(f"'{twice[0]}' would name an input and an output; rename the task or the modality")
        return Names(inputs, outputs)


def example(modalities: Mapping[str, ModalitySpec], names: list[str], count: int) -> tuple[dict[str, Tensor], ...]:
    """Return inputs and presence masks of a number of studies that have everything, in the graph's order.

    Raises:
        ValueError: A modality has no size.
    """
    for name, spec in modalities.items():
        if spec.spatial_dims and spec.size is None:
            raise ValueError(f"modality '{name}' has no size, and a graph needs one")
    inputs = {name: torch.full((count, spec.channels, *(spec.size or ())), 0.5) for name, spec in modalities.items()}
    return inputs, {name: torch.ones(count, dtype=torch.bool) for name in names}


@torch.inference_mode()
def allows_absence(model: nn.Module, modalities: Mapping[str, ModalitySpec]) -> bool:
    """Return whether a network answers without one of its modalities; of one modality there is nothing to leave out."""
    if len(modalities) < 2:
        return False
    inputs, _ = example(modalities, [], 1)
    rest = dict(list(inputs.items())[1:])
    noise = get_noise(model)
    generator = None if noise is None else noise.generator
    try:
        model(rest, {name: torch.full((1,), name in rest) for name in modalities})
    except ValueError:
        return False
    finally:
        if noise is not None:
            noise.generator = generator
    return True


class _Features:
    """Hooks that gather features as ``mailnet.bundle.features`` does, over whole batches."""

    def __init__(
        self, network: nn.Module, modalities: Mapping[str, ModalitySpec], layers: Mapping[str, tuple[int, ...]]
    ) -> None:
        self._kept: dict[tuple[str, int], list[Tensor]] = {}
        self._network, self._modalities, self._layers = network, modalities, layers
        self._hooks: list[Any] = []

    def __enter__(self) -> _Features:
        own: Any = getattr(self._network, "feature_layers", dict)
        known: dict[str, list[nn.Module]] = own() if any(self._layers.values()) else {}
        for place, (name, spec) in enumerate(self._modalities.items()):
            for k in self._layers.get(name, ()):
                hook = partial(self._keep, name, k, place, spec.spatial_dims)
                self._hooks.append(known[name][k].register_forward_hook(hook))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def features(self) -> dict[str, Tensor]:
        """Return modality -> (N, C), the mean over the passes."""
        return {
            name: torch.cat([torch.stack(self._kept[name, k]).mean(0) for k in sorted(layers)], 1)
            for name, layers in self._layers.items()
            if layers
        }

    def _keep(self, name: str, k: int, place: int, dims: int, module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Mapping):
            output = output.get(name)
        elif isinstance(output, list | tuple):
            output = output[place]
        if not isinstance(output, Tensor) or output.ndim != 2 + dims:
            return
        cells = output.float().flatten(2)
        mean = cells.mean(2)
        deviation = (cells - mean[:, :, None]).square().mean(2).sqrt()
        self._kept.setdefault((name, k), []).append(torch.cat([mean, deviation], 1))


def _known(values: Tensor, has: Tensor | None) -> Tensor:
    return values if has is None else torch.where(has[:, None], values, torch.full_like(values, float("nan")))
