"""What a modality takes of its files and what becomes of their values, in words for reports, cards and listings."""

from __future__ import annotations

from mailnet.data.config import ImageConfig, PixelConfig, VolumeConfig, Window


def input_in_words(section: PixelConfig) -> str:
    """Return size, channels, plane, spacing and series of what a network sees.

    >>> input_in_words(ImageConfig(slice="middle", plane="coronal", neighbours=1))
    '128 x 128, 3 channels, the middle coronal plane with 1 before and after it'
    >>> input_in_words(VolumeConfig(kind="volume", select={"SeriesDescription": "*T1*"}))
    '64 x 64 x 64, 1 channel, DICOM series with SeriesDescription *T1*'
    """
    words = [_product(section.size), f"{section.inputs} channel{'s' if section.inputs > 1 else ''}"]
    if isinstance(section, VolumeConfig) and section.spacing is not None:
        words.append(f"voxels of {_product(section.spacing)} mm")
    if isinstance(section, ImageConfig) and section.slice is not None:
        words.append(_plane(section))
    if section.frame is not None:
        words.append("mean over time" if section.frame == "mean" else f"point in time {section.frame}")
    if section.select:
        words.append("DICOM series with " + " and ".join(f"{tag} {value}" for tag, value in section.select.items()))
    return ", ".join(words)


def values_in_words(section: PixelConfig) -> str:
    """Return which values a file may have, and which of them become 0 and 1.

    >>> values_in_words(ImageConfig(units="HU", range=(-1024, 3071), window=Window(center=40, width=80)))
    '-1024 to 3071 HU, window 0 to 80'
    >>> values_in_words(ImageConfig(slice="middle", percentiles=(1, 99)))
    'percentiles 1 to 99 of the planes taken'
    """
    words = []
    if section.range is not None:
        words.append(f"{section.range[0]:g} to {section.range[1]:g}" + (f" {section.units}" if section.units else ""))
    elif section.units:
        words.append(section.units)
    if isinstance(section.window, Window):
        half = section.window.width / 2
        words.append(f"window {section.window.center - half:g} to {section.window.center + half:g}")
    elif section.window == "file":
        words.append("the file's own window")
    elif section.percentiles is not None:
        taken = "the planes taken" if isinstance(section, ImageConfig) and section.slice is not None else "each file"
        words.append(f"percentiles {section.percentiles[0]:g} to {section.percentiles[1]:g} of {taken}")
    elif section.range is None:
        words.append("full range of the type")
    return ", ".join(words)


def _plane(section: ImageConfig) -> str:
    direction = f"{section.plane} " if section.plane else ""
    plane = {
        "middle": f"the middle {direction}plane",
        "largest": f"the {direction}plane with the largest area of a mask",
        "all": f"each {direction}plane",
    }.get(str(section.slice), f"{direction}plane {section.slice}")
    around = f" with {section.neighbours} before and after it" if section.neighbours else ""
    return plane + around


def _product(sides: tuple[float, ...]) -> str:
    return " x ".join(f"{side:g}" for side in sides)
