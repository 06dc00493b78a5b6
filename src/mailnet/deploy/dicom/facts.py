"""What results say of the model that made them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mailnet.deploy.layout import FACTS
from mailnet.errors import RunError
from mailnet.files import read_json
from mailnet.specs import TaskSpec

if TYPE_CHECKING:
    from mailnet.bundle import StudyPredictor

RESEARCH = "For research use only; not a medical device. No clinical decision may rest on this result."


@dataclass(frozen=True)
class ModelFacts:
    """A model as results name it.

    Args:
        network: Its name in the registry.
        study: Name of the study that it was trained on.
        version: Of mailnet.
        weights: SHA-256 of its weights.
        tasks: Its tasks.
        modalities: Names of its modalities.
        alpha: Chance that a prediction set misses the true answer, None where it has no sets.
        noise: How a random network is met: mode, draws and seed; None for others.
        calibrated: Its probabilities are calibrated.
    """

    network: str
    study: str
    version: str
    weights: str
    tasks: Mapping[str, TaskSpec]
    modalities: tuple[str, ...]
    alpha: float | None = None
    noise: Mapping[str, Any] | None = None
    calibrated: bool = False

    @property
    def name(self) -> str:
        """The model in words."""
        return f"{self.study} ({self.network})"

    def parameters(self) -> list[str]:
        """Return what belongs to an answer besides the model's name and version, a line each."""
        lines = [f"weights SHA-256 {self.weights}", f"probabilities {'' if self.calibrated else 'not '}calibrated"]
        if self.alpha is not None:
            lines.append(f"prediction sets that miss the true answer with a chance of at most {self.alpha:g}")
        if self.noise is not None:
            lines.append("noise " + ", ".join(f"{key} {value}" for key, value in self.noise.items()))
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "network": self.network,
            "study": self.study,
            "mailnet": self.version,
            "weights": self.weights,
            "calibrated": self.calibrated,
            "noise": None if self.noise is None else dict(self.noise),
        }


def facts_of(predictor: StudyPredictor, folder: str | Path) -> ModelFacts:
    """Return the facts of a loaded model.

    Args:
        predictor: What ``mailnet.bundle.load`` or ``mailnet.deploy.runtime.load`` gave.
        folder: The run, bundle or exported folder that it was loaded from.

    Raises:
        RunError: It holds no weights and names none.
    """
    import mailnet

    reliability = predictor.reliability
    return ModelFacts(
        network=predictor.facts.model_name,
        study=predictor.facts.study,
        version=mailnet.__version__,
        weights=_weights(Path(folder)),
        tasks=predictor.tasks,
        modalities=tuple(predictor.modalities),
        alpha=reliability.alphas[0] if reliability is not None and reliability.alphas else None,
        noise=getattr(predictor, "noise", None),
        calibrated=reliability is not None and bool(reliability.calibrators),
    )


def _weights(folder: Path) -> str:
    """Return the SHA-256 of the weights of a model, of an exported one that of the weights that it was made from."""
    from mailnet.bundle import find_bundle
    from mailnet.bundle.weights import weights_digest

    try:
        if (folder / FACTS).is_file():
            return str(read_json(folder / FACTS)["source"]["weights"])
        return weights_digest(find_bundle(folder))
    except (OSError, KeyError, TypeError) as error:
        raise RunError(
            "does not say which weights it has", file=folder, remedy="Export it or train it again"
        ) from error
