"""What a card is written from: the files of a bundle and of the run that it lies in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailnet.bundle.fitted import fitted_digests
from mailnet.bundle.foreign_files import FILE as FOREIGN
from mailnet.bundle.reliability import FILE as RELIABILITY
from mailnet.bundle.reliability import calibration_digest
from mailnet.bundle.weights import WEIGHTS, weights_digest
from mailnet.data.config import load_config
from mailnet.files import read_json

CARD, CONFIG = "README.md", "config.json"
FORMAT = 1  # of the files of a run that are read here; newer ones are left aside
SPLIT = "test"


@dataclass(frozen=True)
class Facts:
    """What is known of a model.

    Args:
        values: Contents of the bundle's ``config.json``.
        parameters: Number of parameters, where known.
        description: The study's own.
        source: Where its data come from, in its own words.
        data: ``data.json``, or of it ``studies`` alone.
        fitted: ``calibration.json`` of the bundle; empty where nothing was fitted.
        evaluation: ``evaluation.json``, if it is of the run's own test studies; without what it says of sets,
            thresholds or foreign studies where these were fitted anew since.
        outdated: Those were measured before the model was trained, or calibrated, as it is now.
        attacked: ``robustness.json``, likewise.
        damaged: ``corruptions.json``, likewise.
        certified: ``certificate.json``, likewise.
        explained: ``explanations.json``.
        foreign: ``foreign.json`` of the bundle: how studies are known that are unlike those of training.
    """

    values: Mapping[str, Any]
    parameters: int | None = None
    description: str = ""
    source: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    fitted: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] | None = None
    outdated: bool = False
    attacked: Mapping[str, Any] | None = None
    damaged: Mapping[str, Any] | None = None
    certified: Mapping[str, Any] | None = None
    explained: Mapping[str, Any] | None = None
    foreign: Mapping[str, Any] | None = None

    @property
    def pixels(self) -> bool:
        """Whether any modality is an image or a volume."""
        return any(spec["kind"] != "tabular" for spec in self.values["modalities"])


def gather(run: Path) -> Facts:
    """Read what a run knows of its model.

    Args:
        run: The run, with its bundle.

    Raises:
        RunError: A file is damaged.
        ConfigError: The study.yaml is.
    """
    bundle = run / "bundle"
    values = read_json(bundle / CONFIG)
    config = load_config(run / "study.yaml") if (run / "study.yaml").is_file() else None
    fitted = _read(bundle / RELIABILITY) or {}
    evaluation = _of_test(_read(run / "evaluation.json"))
    weights = weights_digest(run) if (bundle / WEIGHTS).is_file() else None
    retrained = _of_other_weights(evaluation, weights)
    outdated = retrained or (evaluation is not None and _outdated(evaluation, fitted))
    attacked = _of_test(_read(run / "robustness.json"))
    damaged = None if retrained else _of_test(_read(run / "corruptions.json"))
    certified = None if retrained else _read(run / "certificate.json")
    model = (evaluation or {}).get("model", {})
    recorded = (_read(run / "run.json") or {}).get("parameters", model.get("trainable"))
    return Facts(
        values=values,
        parameters=values["model"].get("parameters", recorded),
        description="" if config is None else config.description,
        source="" if config is None else config.source,
        data=_read(run / "data.json") or {},
        fitted=fitted,
        evaluation=None if outdated or evaluation is None else _of_these(evaluation, fitted, fitted_digests(bundle)),
        outdated=outdated,
        attacked=None if _of_other_weights(attacked, weights) else attacked,
        damaged=damaged,
        certified=certified if certified and certified["settings"].get("split") == SPLIT else None,
        explained=None if retrained else _read(run / "explanations" / "explanations.json"),
        foreign=_read(bundle / FOREIGN),
    )


def _read(path: Path) -> dict[str, Any] | None:
    found = dict(read_json(path)) if path.is_file() else None
    return None if found is None or int(found.get("format", FORMAT)) > FORMAT else found


def _of_test(found: dict[str, Any] | None) -> dict[str, Any] | None:
    own = found is not None and found.get("split", SPLIT) == SPLIT and not found.get("external")
    return found if own else None


def _of_other_weights(found: Mapping[str, Any] | None, weights: str | None) -> bool:
    known = (found or {}).get("model", {}).get("weights", weights)  # older files do not say of which they are
    return bool(known != weights)


def _outdated(evaluation: Mapping[str, Any], fitted: Mapping[str, Any]) -> bool:
    calibrators = fitted.get("calibrators", {})
    if "calibration" in evaluation.get("model", {}):
        return bool(evaluation["model"]["calibration"] != calibration_digest(calibrators))
    # An older evaluation says only whether there was a calibration.
    return set((evaluation.get("reliability") or {}).get("calibration", {})) != set(calibrators)


def _of_these(evaluation: dict[str, Any], fitted: Mapping[str, Any], digests: Mapping[str, str]) -> dict[str, Any]:
    """Return an evaluation without what was measured of other sets, thresholds or alarms than the bundle has now."""
    known = evaluation.get("model", {}).get("fitted")
    measured = evaluation.get("reliability")
    if measured and known is None:  # an older one does not say; a threshold is known by its number, sets by their kind
        same = {
            task: one for task, one in measured["abstention"].items()
            if one["threshold"] == fitted.get("abstentions", {}).get(task, {}).get("threshold")
        }  # fmt: skip
        measured = {**measured, "abstention": same}
    elif measured and known.get(RELIABILITY) != digests.get(RELIABILITY):
        measured = {**measured, "sets": {}, "abstention": {}}
    foreign = evaluation.get("foreign")
    if known is not None and known.get(FOREIGN) != digests.get(FOREIGN):
        foreign = None
    return {**evaluation, "reliability": measured, "foreign": foreign}
