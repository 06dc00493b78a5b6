"""One model of the service: what it says of itself, and its answers to several studies at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mailnet.bundle import StudyPredictor
from mailnet.data.config import ImageConfig, ModalityConfig, PixelConfig, VolumeConfig
from mailnet.deploy.service.refusal import Refused, unusable
from mailnet.specs import ModalitySpec

# The column of identifiers in what the predictor is given: one that no table can have.
KEY = "\0request"


@dataclass(frozen=True)
class Asked:
    """A study that is to be predicted.

    Args:
        images: Image or volume -> what the network sees of it, uint8 or uint16, see ``load_image``.
        cells: Column -> value.
        id: What the study is to be called in the answer.
        without: Whether the answers with each modality left out are wanted too.
        odd: What the headers of its files contradict, in words, see ``odd_owners``.
    """

    images: Mapping[str, np.ndarray]
    cells: Mapping[str, Any]
    id: str | None = None
    without: bool = False
    odd: tuple[str, ...] = ()

    def row(self, key: str) -> dict[str, Any]:
        """Return the study as ``predict`` takes it, channels last as files have them."""
        images = {name: np.moveaxis(image, 0, -1) for name, image in self.images.items()}
        return {**self.cells, **{column(name): image for name, image in images.items()}, KEY: key}


@dataclass
class Served:
    """A model.

    Args:
        name: What requests call it.
        study: Name of the study that it was trained on.
        sections: Its modalities as files are read for it, within the service's limits.
        predictor: Takes images as ``sections`` made them, see ``ready``.
        explains: Methods by which it is explained.
        explainer: Predictor of its own for explanations, so that these and predictions may go on at once.
        needs_all: Whether it can't answer a study that lacks a modality.
        facts: What DICOM results say of it, where these can be made.
    """

    name: str
    study: str
    sections: dict[str, ModalityConfig]
    predictor: StudyPredictor
    explains: list[str] = field(default_factory=list)
    explainer: Any = None
    needs_all: bool = False
    facts: Any = None

    @property
    def columns(self) -> list[str]:
        """The columns of all its tables."""
        return list(dict.fromkeys(name for state in self.predictor.tables.values() for name in state.columns))

    def info(self) -> dict[str, Any]:
        """Return what ``/v1/models`` says of it."""
        reliability = self.predictor.reliability
        return {
            "name": self.name,
            "study": self.study,
            "modalities": {name: self._modality(name, spec) for name, spec in self.predictor.modalities.items()},
            "tasks": {n: {"kind": t.kind, "classes": list(t.classes)} for n, t in self.predictor.tasks.items()},
            "alpha": reliability.alphas[0] if reliability is not None and reliability.alphas else None,
            "calibrated": reliability is not None and set(self.predictor.tasks) <= set(reliability.calibrators),
            "sets": reliability is not None and bool(reliability.alphas),
            "foreign": self.predictor.foreign is not None,
            "noise": getattr(self.predictor, "noise", None),
            "explains": self.explains,
            "research_use_only": True,
        }

    def predict(self, asked: Sequence[Asked]) -> list[dict[str, Any] | Exception]:
        """Answer studies together, each as if it were alone: ``study``, ``alpha`` and, where wanted, ``without``."""
        found = self._predict({str(k): one for k, one in enumerate(asked)}, ())
        for name in self.predictor.modalities:
            several = {
                key: asked[int(key)]
                for key, answer in found.items()
                if isinstance(answer, dict) and asked[int(key)].without and self._can_do_without(name, answer)
            }
            for key, hidden in self._predict(several, (name,)).items() if several else ():
                answer = found[key]
                if isinstance(answer, dict) and isinstance(hidden, dict):
                    tasks = hidden["study"]["tasks"]
                    answer["without"][name] = {task: said["probabilities"] for task, said in tasks.items()}
        return [found[str(k)] for k in range(len(asked))]

    def _can_do_without(self, name: str, answer: Mapping[str, Any]) -> bool:
        absent = answer["study"]["absent"]
        return not self.needs_all and name not in absent and len(self.predictor.modalities) - len(absent) > 1

    def check(self, asked: Asked) -> None:
        """Refuse a study that has nothing, or lacks what the model cannot do without.

        Raises:
            Refused: It is such a study.
        """
        given = {name for name, value in asked.cells.items() if value not in (None, "")}
        tables = self.predictor.tables
        here = [
            n for n in self.predictor.modalities if n in asked.images or (n in tables and given & {*tables[n].columns})
        ]
        names = ", ".join(self.predictor.modalities)
        if not here:
            raise Refused(422, "the study has no modality at all", f"Send at least one of {names}")
        if self.needs_all and (lacking := [name for name in self.predictor.modalities if name not in here]):
            raise Refused(
                422, f"the study has no {lacking[0]}, which this model cannot do without", f"Send all of {names}"
            )

    def _predict(self, asked: Mapping[str, Asked], without: Sequence[str]) -> dict[str, dict[str, Any] | Exception]:
        rows = [one.row(key) for key, one in asked.items()]
        predictions = self.predictor.predict(rows, without=without, batch_size=len(rows), skip_bad=True)
        # Headers are read with the files, of which the predictor sees the pixels alone.
        odd = [[*asked[key].odd, *words] for key, words in zip(predictions.ids, predictions.odd, strict=True)]
        predictions = replace(predictions, odd=odd)
        found: dict[str, dict[str, Any] | Exception] = {str(error.study): unusable(error) for error in predictions.bad}
        for study in predictions.as_dicts():
            key = study["id"]
            # As a single study without a name is called.
            study["id"] = asked[key].id or "row 1"
            answer = {"study": study, "alpha": predictions.alpha}
            found[key] = {**answer, "without": {}} if asked[key].without else answer
        for key in asked:
            found.setdefault(key, Refused(422, "the study cannot be answered", "Send one plane, or one study"))
        return found

    def _modality(self, name: str, spec: ModalitySpec) -> dict[str, Any]:
        info: dict[str, Any] = {
            "kind": spec.kind,
            "channels": spec.channels,
            "size": None if spec.size is None else list(spec.size),
        }
        section = self.sections[name]
        if isinstance(section, ImageConfig) and section.mask is not None:
            info["mask"] = section.mask
        if name in self.predictor.tables:
            state = self.predictor.tables[name]
            info["columns"] = [
                *({"name": one, "kind": "numeric"} for one in state.numeric.names),
                *({"name": c.name, "kind": "categorical", "categories": list(c.values)} for c in state.categorical),
            ]
        return info


def column(modality: str) -> str:
    """Return the column of an image in what the predictor is given: one that no table can have."""
    return f"\0{modality}"


def ready(sections: Mapping[str, ModalityConfig], specs: Mapping[str, ModalitySpec]) -> dict[str, ModalityConfig]:
    """Return modalities that take images as ``load_image`` made them, of which they change nothing.

    So each file is decoded once, before its study waits for others, and no file holds up theirs.
    """
    found: dict[str, ModalityConfig] = {}
    for name, section in sections.items():
        size: Any = specs[name].size
        if not isinstance(section, PixelConfig):
            found[name] = section
        elif isinstance(section, VolumeConfig):
            found[name] = VolumeConfig(kind="volume", column=column(name), channels=specs[name].channels, size=size)
        else:
            found[name] = ImageConfig(column=column(name), channels=specs[name].channels, size=size)
    return found
