"""A heat map as DICOM images: over the image as Secondary Capture, its values as Parametric Map."""

from __future__ import annotations

from typing import Any

import numpy as np

from mailnet.deploy.dicom.facts import RESEARCH, ModelFacts
from mailnet.deploy.dicom.heat import Heat
from mailnet.deploy.dicom.identity import CHARACTERS, MANUFACTURER, code, derived_uid, line, schemes
from mailnet.deploy.dicom.native import Native

CAPTURE_SERIES, MAP_SERIES = 9802, 9803
OPACITY = 0.6
LABEL = "RESEARCH USE ONLY"
_STRIP, _WIDE = 14, 128  # pixels: height of the strip that says so, and width from which there is room for it


def overlay(heat: Heat, native: Native, plane: int) -> np.ndarray:
    """Return (H, W, 3) uint8: a plane of the source with the heat over it, below it a strip that limits its use."""
    from PIL import Image, ImageDraw

    from mailnet.explain.overlay.colours import colour_map

    scaled = native.heat[plane] / (heat.top or 1.0)
    colours = colour_map(heat.signed, OPACITY)(((scaled + 1) / 2 if heat.signed else scaled).clip(0, 1))
    alpha = colours[..., 3:]
    blended = native.picture(plane) * (1 - alpha) + colours[..., :3] * alpha
    pixels: np.ndarray = np.rint(blended * 255).astype(np.uint8)
    if pixels.shape[1] < _WIDE:
        return pixels
    strip = Image.new("RGB", (pixels.shape[1], _STRIP))
    ImageDraw.Draw(strip).text((3, 1), LABEL, fill=(255, 255, 255))
    return np.concatenate([pixels, np.asarray(strip)])


def secondary_capture(heat: Heat, native: Native, facts: ModelFacts, number: int) -> Any:
    """Return the plane with most heat as a Secondary Capture image (PS3.3 A.8.1) that lies where its source does.

    Args:
        heat: The map.
        native: The same on its source.
        facts: Of the model.
        number: Of the image in its series, from 1.

    Returns:
        A ``highdicom.sc.SCImage``.
    """
    from highdicom.sc import SCImage
    from pydicom.dataset import Dataset

    plane = native.strongest
    header, frame = native.planes[plane]
    pixels = overlay(heat, native, plane)
    study = str(header.StudyInstanceUID)
    image = SCImage.from_ref_dataset(
        header,
        pixels,
        "RGB",
        8,
        "PATIENT",
        series_instance_uid=derived_uid("capture series", study, facts.weights),
        series_number=CAPTURE_SERIES,
        sop_instance_uid=_object("capture", header, facts, heat, pixels),
        instance_number=number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=line(facts.name),
        software_versions=line(facts.version),
        device_serial_number=facts.weights[:16],
        patient_orientation=("L", "P"),
        series_description="mailnet heat maps, for research use",
        specific_character_set=CHARACTERS,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
    )
    # Where columns and rows go follows from the place; what the source does not say is not made up (PS3.3 C.7.6.1).
    image.PatientOrientation = header.get("PatientOrientation") or []
    _place(image, header, frame)
    _body_part(image, header)
    image.BurnedInAnnotation = "NO"  # nothing that identifies the patient
    image.ImageComments = RESEARCH
    image.DerivationDescription = _says(heat)
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    if int(header.get("NumberOfFrames") or 1) > 1:
        source.ReferencedFrameNumber = frame + 1
    source.PurposeOfReferenceCodeSequence = [_purpose()]
    image.SourceImageSequence = [source]
    for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if keyword in header:
            setattr(image, keyword, header[keyword].value)
    return image


def parametric_map(heat: Heat, native: Native, facts: ModelFacts, number: int) -> Any | None:
    """Return a map's own numbers as a Parametric Map (PS3.3 A.75) on the planes of its source.

    Args:
        heat: The map.
        native: The same on its source.
        facts: Of the model.
        number: Of the object in its series, from 1.

    Returns:
        A ``highdicom.pm.ParametricMap``, None where the source does not say how it lies in the patient.
    """
    from highdicom import VOILUTTransformation
    from highdicom.pm import DerivedPixelContrastValues, ImageFlavorValues, ParametricMap, RealWorldValueMapping
    from pydicom.sr.codedict import codes

    header, frame = native.planes[0]
    several = int(header.get("NumberOfFrames") or 1) > 1
    if "FrameOfReferenceUID" not in header or not _lies(header, frame):
        return None
    values = native.heat
    sources = [one for one, _ in native.planes]
    if several:  # as many frames as the source has, in its order
        values = np.zeros((int(header.NumberOfFrames), *values.shape[1:]), np.float32)
        values[[place for _, place in native.planes]] = native.heat
        sources = [header]
    low, high = float(values.min()), float(values.max())
    study, top = str(header.StudyInstanceUID), heat.top or 1.0
    made = ParametricMap(
        source_images=sources,
        pixel_array=values,
        series_instance_uid=derived_uid("map series", study, facts.weights, str(header.SeriesInstanceUID)),
        series_number=MAP_SERIES,
        sop_instance_uid=_object("map", header, facts, heat, values),
        instance_number=number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=line(facts.name),
        software_versions=line(facts.version),
        device_serial_number=facts.weights[:16],
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[
            RealWorldValueMapping(
                "LOG_ODDS",
                line(_says(heat)),
                codes.UCUM.NoUnits,
                (low, high),
                slope=1.0,
                intercept=0.0,
                quantity_definition=code("LOG-ODDS", "Log-odds if the whole image were like this pixel"),
            )
        ],
        voi_lut_transformations=[
            VOILUTTransformation(
                window_center=0.0 if heat.signed else top / 2, window_width=2 * top if heat.signed else top
            )
        ],
        content_label="HEAT_MAP",
        content_description=line(_says(heat)),
        image_flavor=ImageFlavorValues.VOLUME,
        derived_pixel_contrast=DerivedPixelContrastValues.QUANTITY,
        series_description="mailnet heat map values, for research use",
        specific_character_set=CHARACTERS,
        coding_schemes=schemes(),
    )
    _body_part(made, header)
    return made


def _body_part(made: Any, header: Any) -> None:
    """Copy what is shown of the body; Laterality is type 2C (PS3.3 C.7.3.1), empty where it is not known."""
    made.Laterality = header.get("Laterality") or header.get("ImageLaterality") or ""
    if header.get("BodyPartExamined"):
        made.BodyPartExamined = header.BodyPartExamined


def _says(heat: Heat) -> str:
    return line(f"{heat.method} of {heat.modality} for {heat.task}: {heat.target}", 1024)


def _object(kind: str, header: Any, facts: ModelFacts, heat: Heat, pixels: np.ndarray) -> str:
    import hashlib

    digest = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
    return derived_uid(kind, str(header.SOPInstanceUID), facts.weights, heat.task, heat.modality, digest)


def _purpose() -> Any:
    from highdicom.sr import CodedConcept

    # PS3.16 CID 7202.
    return CodedConcept("121322", "DCM", "Source image for image processing operation")


def _holders(header: Any, frame: int) -> dict[str, Any]:
    from mailnet.data.dicom.header import macro

    return {
        "ImagePositionPatient": macro(header, frame, "PlanePositionSequence"),
        "ImageOrientationPatient": macro(header, frame, "PlaneOrientationSequence"),
        "PixelSpacing": macro(header, frame, "PixelMeasuresSequence"),
    }


def _lies(header: Any, frame: int) -> bool:
    return all(keyword in holder for keyword, holder in _holders(header, frame).items())


def _place(image: Any, header: Any, frame: int) -> None:
    """Copy where a source lies (PS3.3 C.7.6.2), which Secondary Captures may say beyond their own modules."""
    found = _holders(header, frame)
    if found["PixelSpacing"].get("PixelSpacing"):
        image.PixelSpacing = _decimals(found["PixelSpacing"].PixelSpacing)
    if not _lies(header, frame) or "FrameOfReferenceUID" not in header:
        return
    image.ImagePositionPatient = _decimals(found["ImagePositionPatient"].ImagePositionPatient)
    image.ImageOrientationPatient = _decimals(found["ImageOrientationPatient"].ImageOrientationPatient)
    image.FrameOfReferenceUID = header.FrameOfReferenceUID
    image.PositionReferenceIndicator = header.get("PositionReferenceIndicator", "")


def _decimals(values: Any) -> list[Any]:
    """Return numbers of at most 16 characters (PS3.5 6.2, DS), to which not every sender keeps."""
    from pydicom.valuerep import DSfloat

    return [DSfloat(float(value), auto_format=True) for value in values]
