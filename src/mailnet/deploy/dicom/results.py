"""All DICOM results of one study: the report and, where they are asked for, the heat maps; beside them JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mailnet.data.dicom.files import guarded, open_file
from mailnet.data.dicom.owner import owner_of
from mailnet.deploy.dicom.facts import RESEARCH, ModelFacts
from mailnet.deploy.dicom.heat import Heat, heat_maps
from mailnet.deploy.dicom.identity import check_one_patient, evidence_of
from mailnet.deploy.dicom.native import Source, read_source
from mailnet.deploy.dicom.pictures import parametric_map, secondary_capture
from mailnet.deploy.dicom.report import measurement_report
from mailnet.errors import ConfigError, DataError

if TYPE_CHECKING:
    from mailnet.bundle import StudyPredictor

Results = list[tuple[str, bytes]]  # name of a file, its content
FORMAT = 1
HEAT = ("none", "sc", "pm", "both")


@dataclass(frozen=True)
class Wanted:
    """Which results are made.

    Args:
        heatmap: ``none``, ``sc`` (Secondary Capture), ``pm`` (Parametric Map) or ``both``.
        tasks: Tasks that heat maps are of; default all.
        method: One of ``mailnet.explain.list_explainers()``.

    Raises:
        ConfigError: An unknown kind of heat map.
    """

    heatmap: str = "none"
    tasks: tuple[str, ...] = ()
    method: str = "layer_cam"

    def __post_init__(self) -> None:
        if self.heatmap not in HEAT:
            raise ConfigError(f"there is no heat map '{self.heatmap}'", remedy=f"Use {', '.join(HEAT)}")


def dicom_results(
    predictor: StudyPredictor,
    facts: ModelFacts,
    row: Mapping[str, Any],
    sources: Mapping[str, Sequence[str | Path]],
    *,
    wanted: Wanted | None = None,
    prediction: Mapping[str, Any] | None = None,
) -> Results:
    """Predict a study and return its results as files.

    Args:
        predictor: The model.
        facts: Of it, see ``facts_of``.
        row: The study as ``predict`` takes it, of one prediction.
        sources: Modality -> the DICOM files that the row names for it, each of one series; at least one.
        wanted: What is made; default the report alone.
        prediction: An element of ``Predictions.as_dicts()``, where the study has been predicted already.

    Returns:
        ``report.dcm``, ``heatmap-N.dcm`` and ``heatmap-values-N.dcm`` where asked, and ``prediction.json``. They hold
        the patient's data, as DICOM results must; their names do not.

    Raises:
        DataError: The study cannot be read, or its files are of several studies or patients.
        ConfigError: An unknown task or method of heat maps.
    """
    wanted = wanted or Wanted()
    if prediction is None:
        found = predictor.predict(row)
        if len(found) != 1:
            raise DataError(
                f"makes {len(found)} predictions, a report is of one", remedy="Use a model of whole studies"
            )
        prediction = found.as_dicts()[0]
    maps = heat_maps(predictor, row, wanted.tasks, wanted.method) if wanted.heatmap != "none" else []
    return results_of(prediction, facts, sources, maps, predictor.facts.preprocessing, wanted.heatmap)


def results_of(
    prediction: Mapping[str, Any],
    facts: ModelFacts,
    sources: Mapping[str, Sequence[str | Path]],
    maps: Sequence[Heat] = (),
    preprocessing: Mapping[str, Any] | None = None,
    heatmap: str = "none",
) -> Results:
    """Return what a prediction and its heat maps are as files, see ``dicom_results``; needs no network.

    Args:
        prediction: An element of ``Predictions.as_dicts()``.
        facts: Of the model.
        sources: Modality -> its DICOM files.
        maps: Heat maps; those of modalities without such files are left out.
        preprocessing: Modality -> its section of the bundle; needed with maps.
        heatmap: As of ``Wanted``.

    Raises:
        DataError: The files cannot be read, are of several studies or patients, or there are none.
    """
    headers = {name: headers_of(files) for name, files in sources.items() if files}
    studies = {str(one.StudyInstanceUID) for several in headers.values() for one in several}
    if len(studies) != 1:
        raise DataError(f"holds DICOM files of {len(studies)} studies", remedy="Give those of one study")
    check_one_patient(owner_of(one, {}) for several in headers.values() for one in several)
    results = [("report.dcm", _written(measurement_report, prediction, facts, headers))]
    notes: list[str] = []
    listed: list[dict[str, Any]] = []
    read: dict[str, Source] = {}
    for number, heat in enumerate((one for one in maps if one.modality in headers), start=1):
        name = heat.modality
        listed.append(
            {"number": number, "task": heat.task, "class": heat.target, "modality": name, "method": heat.method}
        )
        if name not in read:
            read[name] = read_source(sources[name], (preprocessing or {})[name])
        native = read[name].native(heat.values)
        if native is None:
            notes.append(f"{name}: the network sees planes across those of the files, so there is no heat map")
            continue
        if heatmap in ("sc", "both"):
            results.append((f"heatmap-{number}.dcm", _written(secondary_capture, heat, native, facts, number)))
        if heatmap in ("pm", "both"):
            values = _written(parametric_map, heat, native, facts, number)
            if values:
                results.append((f"heatmap-values-{number}.dcm", values))
            else:
                notes.append(f"{name}: its files do not say how they lie, so there is no Parametric Map")
    summary = {
        "format": FORMAT,
        "model": facts.as_dict(),
        "StudyInstanceUID": studies.pop(),
        "series": {name: str(several[0].SeriesInstanceUID) for name, several in headers.items() if several},
        "study": {key: value for key, value in prediction.items() if key != "id"},
        "alpha": facts.alpha,
        "heatmaps": listed,
        "files": [name for name, _ in results],
        "notes": list(dict.fromkeys(notes)),
        "use": RESEARCH,
    }
    content = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return [*results, ("prediction.json", content.encode())]


@guarded
def headers_of(files: Sequence[str | Path]) -> list[Any]:
    """Return the headers of DICOM files, fit to make results of.

    Raises:
        DataError: One cannot be read, or lacks what names it.
    """
    headers = [open_file(str(file), pixels=False) for file in files]
    for header in headers:
        for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
            if not header.get(keyword):
                raise DataError(f"has no {keyword} in its header", remedy="Send the study again from its archive")
        evidence_of(header)
    return headers


@guarded
def _written(make: Any, *arguments: Any) -> bytes:
    """Make an object and return its file (PS3.10), empty where there is none."""
    made = make(*arguments)
    if made is None:
        return b""
    file = io.BytesIO()
    made.save_as(file, enforce_file_format=True)
    return file.getvalue()
