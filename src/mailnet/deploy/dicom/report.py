"""A prediction as a DICOM Structured Report: Comprehensive SR, template TID 1500 Measurement Report (PS3.16)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mailnet.deploy.dicom.facts import RESEARCH, ModelFacts
from mailnet.deploy.dicom.identity import CHARACTERS, MANUFACTURER, code, derived_uid, line, schemes, short_digest
from mailnet.specs import TaskSpec

SERIES_NUMBER = 9801


def measurement_report(prediction: Mapping[str, Any], facts: ModelFacts, sources: Mapping[str, Sequence[Any]]) -> Any:
    """Return a report of one study.

    A measurement group (TID 1501) a task holds the probability of every class in per cent, the answer, the members of
    the prediction set, and whether the model is sure enough; one more says of each input whether it was there and like
    those of training. All carry the algorithm (TID 4019). It is PRELIMINARY and UNVERIFIED.

    Args:
        prediction: An element of ``Predictions.as_dicts()``.
        facts: Of the model.
        sources: Modality -> headers of the images that were predicted, see ``identity.evidence_of``; at least one.

    Returns:
        A ``highdicom.sr.ComprehensiveSR``.
    """
    from highdicom import sr
    from pydicom.sr.codedict import codes

    several = [header for headers in sources.values() for header in headers]
    study = str(several[0].StudyInstanceUID)
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", facts.weights),
        name="mailnet",
        manufacturer_name=MANUFACTURER,
        model_name=line(facts.name),
        serial_number=facts.weights[:16],
    )
    observer = sr.ObserverContext(codes.DCM.Device, device)
    groups = [_inputs(prediction, facts, study)]
    groups += [_task(facts.tasks[name], answer, facts, study) for name, answer in prediction["tasks"].items()]
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    root = content[0].ContentSequence
    # TID 1500 has the library before the measurements; it is extensible, and text for readers follows them.
    root.insert(len(root) - 1, _library(sources))
    for text in (RESEARCH, *summary(prediction, facts)):
        root.append(sr.TextContentItem(codes.DCM.Comment, text, sr.RelationshipTypeValues.CONTAINS))
    names = sorted(str(header.SOPInstanceUID) for header in several)
    return sr.ComprehensiveSR(
        evidence=several,
        content=content[0],
        series_instance_uid=derived_uid("report series", study, facts.weights),
        series_number=SERIES_NUMBER,
        sop_instance_uid=derived_uid("report", study, facts.weights, json.dumps([names, prediction], sort_keys=True)),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=line(facts.name),
        software_versions=line(facts.version),
        device_serial_number=facts.weights[:16],
        series_description="mailnet, for research use",
        is_complete=True,
        is_final=False,
        is_verified=False,
        specific_character_set=CHARACTERS,
        coding_schemes=schemes(),
    )


def summary(prediction: Mapping[str, Any], facts: ModelFacts) -> list[str]:
    """Return a prediction in sentences, for people.

    Args:
        prediction: As of ``measurement_report``.
        facts: Of the model.
    """
    lines = []
    for name, answer in prediction["tasks"].items():
        most = sorted(answer["probabilities"].items(), key=lambda pair: -pair[1])[:5]
        text = f"{name}: {answer['predicted'] or 'none'} ({', '.join(f'{key} {100 * p:.1f} %' for key, p in most)})."
        if answer.get("answered") is False:
            text += " The model is not sure enough to answer."
        if "set" in answer:
            text += f" Prediction set, which misses the true answer with a chance of at most {facts.alpha:g}: "
            text += _set_in_words(answer["set"]) + "."
        lines.append(text)
    alarms = [name for name, found in prediction.get("foreign", {}).items() if found["alarm"]]
    if alarms:
        lines.append(f"Unlike the studies that the model has learned from: {', '.join(alarms)}.")
    lines += [f"Warning: {text.rstrip('.')}." for text in prediction.get("warnings", ())]
    if prediction["absent"]:
        lines.append(f"Absent: {', '.join(prediction['absent'])}.")
    return lines


def _set_in_words(members: Any) -> str:
    if isinstance(members, Mapping):
        return (
            f"present {', '.join(members['present']) or 'none'}; undecided {', '.join(members['undecided']) or 'none'}"
        )
    return ", ".join(members) or "none of the classes"


def _group(
    facts: ModelFacts, study: str, name: str, measured: Sequence[Any], found: Sequence[Any], finding: Any = None
) -> Any:
    from highdicom import sr

    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            identifier=f"mailnet: {name}", uid=derived_uid("group", study, facts.weights, name)
        ),
        algorithm_id=sr.AlgorithmIdentification(
            name=facts.name, version=facts.version, parameters=facts.parameters(), manufacturer=MANUFACTURER
        ),
        finding_type=finding,
        measurements=list(measured),
        qualitative_evaluations=[sr.QualitativeEvaluation(what, value) for what, value in found],
    )


def _task(spec: TaskSpec, answer: Mapping[str, Any], facts: ModelFacts, study: str) -> Any:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    classes = {name: code(f"C-{short_digest(spec.name, name)}", name) for name in spec.classes}
    measured = [
        sr.Measurement(
            name=code(f"P-{short_digest(spec.name, name)}", f"Probability of {name}"),
            value=round(100 * p, 4),
            unit=codes.UCUM.Percent,
        )
        for name, p in answer["probabilities"].items()
    ]
    found: list[tuple[Any, Any]] = []
    sets, within = answer.get("set"), code("IN-SET", "Member of the prediction set")
    if spec.kind == "multilabel":
        here, gone = codes.cid240.Present, codes.cid240.Absent
        found += [(classes[name], here if p > 0.5 else gone) for name, p in answer["probabilities"].items()]
        if sets is not None:
            found += [(within, classes[name]) for name in sets["present"]]
            found += [
                (code("UNDECIDED", "Undecided by the prediction set"), classes[name]) for name in sets["undecided"]
            ]
    else:
        found.append((code("ANSWER", "Most probable class"), classes[answer["predicted"]]))
        if sets is not None:
            found += [(within, classes[name]) for name in sets] or [(within, code("NONE", "None of the classes"))]
    if "answered" in answer:
        sure = codes.SCT.Yes if answer["answered"] else codes.SCT.No
        found.append((code("SURE", "Model sure enough to answer"), sure))
    return _group(facts, study, spec.name, measured, found, code(f"T-{short_digest(spec.name)}", spec.name))


def _inputs(prediction: Mapping[str, Any], facts: ModelFacts, study: str) -> Any:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    foreign = prediction.get("foreign", {})
    measured, found = [], []
    for name in facts.modalities:
        key = short_digest("input", name)
        here = name not in prediction["absent"]
        found.append((code(f"I-{key}", f"Input {name}"), codes.cid240.Present if here else codes.cid240.Absent))
        if name in foreign:
            alarm = codes.SCT.Yes if foreign[name]["alarm"] else codes.SCT.No
            found.append((code(f"F-{key}", f"Input {name} unlike the training data"), alarm))
            what = code(f"V-{key}", f"p-value of input {name} being like training data")
            measured.append(sr.Measurement(what, round(foreign[name]["p"], 6), codes.UCUM.NoUnits))
    return _group(facts, study, "inputs", measured, found)


def _library(sources: Mapping[str, Sequence[Any]]) -> Any:
    """Return the images that were predicted, a group a modality (TID 1600 Image Library, TID 1601 its entries)."""
    from highdicom import sr
    from pydicom.sr.codedict import codes

    within = sr.RelationshipTypeValues.CONTAINS
    library = sr.ContainerContentItem(codes.DCM.ImageLibrary, relationship_type=within)
    library.ContentSequence = sr.ContentSequence()
    for headers in sources.values():
        group = sr.ContainerContentItem(codes.DCM.ImageLibraryGroup, relationship_type=within)
        group.ContentSequence = sr.ContentSequence()
        for header in headers:
            source = sr.CodedConcept("260753009", "SCT", "Source")
            item = sr.ImageContentItem(source, header.SOPClassUID, header.SOPInstanceUID, relationship_type=within)
            group.ContentSequence.append(item)
        library.ContentSequence.append(group)
    return library
