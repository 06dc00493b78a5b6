"""From the images of a study to its results, by a model."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mailnet.data.config import ImageConfig, PixelConfig
from mailnet.data.images import count_planes
from mailnet.deploy.dicom.facts import ModelFacts
from mailnet.deploy.dicom.inbox import Instance
from mailnet.deploy.dicom.results import Results, Wanted, dicom_results, headers_of
from mailnet.deploy.dicom.rules import Rules
from mailnet.deploy.dicom.watcher import Answer
from mailnet.errors import DataError

if TYPE_CHECKING:
    from mailnet.bundle import StudyPredictor


def answer_with(predictor: StudyPredictor, facts: ModelFacts, rules: Rules, wanted: Wanted | None = None) -> Answer:
    """Return what makes the results of a study by a model.

    Args:
        predictor: What ``mailnet.bundle.load`` gave.
        facts: Of it, see ``facts_of``.
        rules: Which columns of tables come from the headers.
        wanted: Which results; default the report alone.

    A modality with ``slice: all`` is answered of a single plane. A report is one answer to the study, and of several
    planes there are as many: their mean is no probability that anything was fitted or checked for, and the promise of
    prediction sets holds for a plane.
    """

    def answer(series: dict[str, list[Instance]], work: Path) -> Results:
        row: dict[str, Any] = {}
        for number, (name, images) in enumerate(series.items()):
            section = predictor.facts.preprocessing[name]
            assert isinstance(section, PixelConfig)
            place = _gathered(images, work / str(number))
            if isinstance(section, ImageConfig) and section.slice == "all" and (n := count_planes(place, section)) > 1:
                raise DataError(
                    f"has {n} planes, which the model answers one by one, and a report is one answer",
                    modality=name,
                    remedy="Use 'mailnet predict' for an answer to each plane, or a model of whole series",
                )
            row[section.column or name] = place
        if rules.columns:
            first = next(iter(series.values()))[0]
            row |= rules.values(headers_of([first.path])[0])
        files = {name: [one.path for one in images] for name, images in series.items()}
        return dicom_results(predictor, facts, row, files, wanted=wanted)

    return answer


def _gathered(images: list[Instance], folder: Path) -> str:
    """Return where the images of a series lie: a file, or a folder of links, whose names say nothing of a patient."""
    if len(images) == 1:
        return images[0].path
    folder.mkdir()
    for number, one in enumerate(images):
        target = folder / f"{number:06d}.dcm"
        try:
            os.link(one.path, target)
        except FileNotFoundError:
            raise DataError("has lost a file while it was read", remedy="It is tried again when it is sent") from None
        except OSError:  # another disk, or files of another owner
            shutil.copyfile(one.path, target)
    return str(folder)
