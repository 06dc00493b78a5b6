"""A study of DICOM files answered as DICOM files: a Structured Report, and heat maps."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from mailnet.data.config import ImageConfig
from mailnet.data.locations import split_plane
from mailnet.deploy.service.refusal import Refused
from mailnet.deploy.service.served import Asked, Served
from mailnet.deploy.service.settings import Settings
from mailnet.deploy.service.study import locate, study_of
from mailnet.deploy.service.upload import Upload

HEATMAPS = ("none", "sc", "pm", "both")


@dataclass
class Sourced:
    """A study with the files that it came from.

    Args:
        asked: The study.
        sources: Modality -> its DICOM files, which lie in the upload.
        heatmap: One of ``HEATMAPS``.
        maps: The heat maps, once they are made.
    """

    asked: Asked
    sources: dict[str, list[str]]
    heatmap: str
    maps: list[Any] = field(default_factory=list)


def can_make_dicom() -> bool:
    """Return whether what makes DICOM files is installed."""
    return find_spec("highdicom") is not None


def sourced_of(upload: Upload, served: Served, settings: Settings, heatmap: str | None) -> Sourced:
    """Return the study that a form holds, and its DICOM files; runs long.

    Args:
        upload: The form, whose files have to stay until the answer is made.
        served: The model.
        settings: Of the service.
        heatmap: One of ``HEATMAPS``; None for ``sc`` of a model that explains and has no masks, else ``none``.

    Raises:
        Refused: The study cannot be used, or has no DICOM file.
    """
    # Which plane a mask has chosen is not known any more once the heat map is brought back to its file.
    masked = any(isinstance(section, ImageConfig) and section.mask for section in served.sections.values())
    chosen = heatmap or ("sc" if served.explains and not masked else "none")
    if chosen not in HEATMAPS:
        raise Refused(422, "there is no such heat map", f"Use {', '.join(HEATMAPS)}")
    if chosen != "none" and not served.explains:
        raise Refused(422, "an exported model explains nothing", "Leave heatmap out")
    if chosen != "none" and masked:
        raise Refused(422, "of a plane that a mask chooses there is no DICOM heat map", "Send heatmap=none")
    located = locate(upload, served.sections, settings)
    asked = study_of(upload, located, served)
    sources = {
        name: [entry.path for entry in sorted(os.scandir(place), key=lambda entry: entry.name)]
        if os.path.isdir(place)
        else [place]
        for name, place in ((name, split_plane(location)[0]) for name, location in located.items())
        if os.path.isdir(place) or place.endswith(".dcm")
    }
    if not sources:
        raise Refused(422, "the study has no DICOM file", "Send DICOM files; /v1/predict answers others")
    return Sourced(asked, sources, chosen)


def maps_of(served: Served, sourced: Sourced) -> list[Any]:
    """Return a heat map of each image and task, by the model's first method; for the thread that explains."""
    from mailnet.deploy.dicom.heat import heat_maps

    return list(heat_maps(served.explainer, sourced.asked.row("study"), (), served.explains[0]))


def dicom_of(served: Served, sourced: Sourced, prediction: Mapping[str, Any]) -> bytes:
    """Return a zip of the results; runs long.

    Args:
        served: The model.
        sourced: The study, its heat maps made.
        prediction: The answer to it.

    Raises:
        DataError: The files are of several studies or patients.
    """
    from mailnet.data.dicom.files import quiet
    from mailnet.deploy.dicom import results_of

    with quiet():
        files = results_of(
            prediction, served.facts, sourced.sources, sourced.maps, served.sections, sourced.heatmap
        )  # fmt: skip
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files:
            archive.writestr(name, content)
    return packed.getvalue()
