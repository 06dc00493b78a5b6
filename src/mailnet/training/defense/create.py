"""The defence that a configuration asks for."""

from __future__ import annotations

from torch import nn

from mailnet.attacks import Threat
from mailnet.data.config import StudyConfig
from mailnet.errors import ConfigError
from mailnet.nn.noise import get_noise
from mailnet.training.defense.gaussian import Gaussian
from mailnet.training.defense.lesson import Defense
from mailnet.training.defense.methods import Adversarial, Fast, Free, Mart, Trades

METHODS: dict[str, type[Adversarial]] = {
    "pgd_at": Adversarial,
    "trades": Trades,
    "mart": Mart,
    "fast": Fast,
    "free": Free,
}


def create_defense(config: StudyConfig, network: nn.Module) -> Defense | None:
    """Return the defence of ``train.defense``, None where there is none.

    Args:
        config: The study.
        network: The network that will be trained.

    Raises:
        ConfigError: Several draws of a network that draws nothing.
    """
    settings = config.train.defense
    if settings is None:
        return None
    lengths = settings.lengths(config.modalities)
    if settings.name == "gaussian":
        return Gaussian(lengths)
    for key in ("draws", "validation_draws"):
        if (getattr(settings, key) or 1) > 1 and get_noise(network) is None:
            raise ConfigError(
                f"the network '{config.model.name}' draws no random numbers, so there are no draws to average",
                remedy=f"Set train.defense.{key}=1, or choose a random network such as robust_mail",
            )
    assert settings.norm is not None
    return METHODS[settings.name](settings, Threat(settings.norm, lengths))
