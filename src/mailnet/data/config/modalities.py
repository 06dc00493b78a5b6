"""The modalities: images, volumes and tables."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mailnet.data.config.base import Section


class Window(Section):
    """The values that are shown, from ``center - width / 2`` to ``center + width / 2``, in the file's units."""

    center: float
    width: float = Field(gt=0)


class PixelConfig(Section):
    """What images and volumes share: which file, which of its values, and how these become [0, 1].

    The values of a file, in its units (HU of a CT after rescaling), pass through these steps, each of them declared:

    * ``range``, the lowest and highest value that a file can have; a value outside is an error.
    * ``window`` clips to a window and maps it to [0, 1]: one that is given, or the ``file``'s own (DICOM).
      ``percentiles`` does the same with two percentiles of each file (of the planes taken of it), as for MR.
    * Without these, ``range`` is mapped to [0, 1]; left out too, it is the whole range of the file's integer type.

    ``units`` states the files' units; a file that says otherwise is an error. ``convert`` allows colour to grey and
    grey to colour; otherwise a file with another number of channels is an error. ``select`` chooses a series within a
    folder by DICOM tags, each a pattern: ``{Modality: MR, SeriesDescription: "*T1*"}``. ``frame`` takes one point in
    time of a 4-D file, or their ``mean``; without it these are channels. Files that would unpack to more than
    ``max_pixels`` a plane or ``max_voxels`` in all are refused before they are.
    """

    kind: Literal["image", "volume"]
    column: str | None = None
    channels: int = Field(1, ge=1)
    size: tuple[int, ...]
    resize: Literal["letterbox", "stretch", "crop"] = "letterbox"
    units: str | None = None
    range: tuple[float, float] | None = None
    window: Window | Literal["file"] | None = None
    percentiles: tuple[float, float] | None = None
    convert: bool = False
    select: dict[str, str] = {}
    frame: Annotated[int, Field(ge=0)] | Literal["mean"] | None = None
    max_pixels: int = Field(2**26, ge=1)
    max_voxels: int = Field(2**28, ge=1)

    @model_validator(mode="after")
    def _intensity(self) -> PixelConfig:
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"range must rise, got {list(self.range)}")
        if self.percentiles is not None:
            if not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
                raise ValueError(f"percentiles must rise within [0, 100], got {list(self.percentiles)}")
            if self.window is not None:
                raise ValueError("'window' and 'percentiles' exclude each other")
        return self

    @property
    def inputs(self) -> int:
        """Number of channels that the network sees."""
        return self.channels

    def preparation(self) -> dict[str, Any]:
        """Return the keys on which the array of a file depends, as plain values."""
        # A default is left out, so that a key that a later version adds does not change what older files became.
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"column", "augment", "mask"})


class ImageConfig(PixelConfig):
    """A 2-D image per study: a picture, or a plane of a volume.

    ``slice`` is the plane of a file that has several: its number from 0, the ``middle`` one, the one with the
    ``largest`` area of the mask that the column ``mask`` names, or ``all``, which makes each plane a study and keeps
    their group. ``plane`` is its direction: that of the files where left out, which is axial in NIfTI. With
    ``neighbours: n``, the n planes before and after it become further channels (2.5-D).
    """

    kind: Literal["image"] = "image"
    size: tuple[int, int] = (128, 128)
    slice: Annotated[int, Field(ge=0)] | Literal["middle", "largest", "all"] | None = None
    plane: Literal["axial", "coronal", "sagittal"] | None = None
    neighbours: int = Field(0, ge=0)
    mask: str | None = None
    augment: Literal["auto", "none", "slice", "radiograph", "ultrasound", "microscopy", "photo"] = "auto"

    @field_validator("size", mode="before")
    @classmethod
    def _square(cls, value: Any) -> Any:
        return _sides(value, 2, "[height, width]")

    @model_validator(mode="after")
    def _sane(self) -> ImageConfig:
        if min(self.size) < 8:
            raise ValueError(f"size must be at least 8 pixels a side, got {list(self.size)}")
        if (self.slice == "largest") != (self.mask is not None):
            raise ValueError("'slice: largest' and the column 'mask' need each other")
        if self.neighbours and self.slice is None:
            raise ValueError("'neighbours' are those of a plane: say which with 'slice'")
        return self

    @property
    def inputs(self) -> int:
        """Number of channels that the network sees, those of neighbouring planes among them."""
        return self.channels * (2 * self.neighbours + 1)


class VolumeConfig(PixelConfig):
    """A 3-D volume per study.

    With ``spacing``, in mm as [between planes, between rows, between columns], a volume is brought to it and then, from
    its centre, cut or padded to ``size``. Without, the whole volume is brought to ``size``: its proportions kept by
    padding (``letterbox``) or by cutting (``crop``), or not (``stretch``).
    """

    kind: Literal["volume"]
    size: tuple[int, int, int] = (64, 64, 64)
    spacing: tuple[float, float, float] | None = None
    augment: Literal["auto", "none"] = "auto"

    @field_validator("size", "spacing", mode="before")
    @classmethod
    def _cube(cls, value: Any) -> Any:
        return value if value is None else _sides(value, 3, "[depth, height, width]")

    @model_validator(mode="after")
    def _sane(self) -> VolumeConfig:
        if min(self.size) < 8:
            raise ValueError(f"size must be at least 8 voxels a side, got {list(self.size)}")
        if self.spacing is not None and min(self.spacing) <= 0:
            raise ValueError(f"spacing must be positive, got {list(self.spacing)}")
        return self


class TabularConfig(Section):
    """Columns of the manifest as one modality.

    Names may be patterns (``"gene_*"``), which stand for all matching columns. Numeric columns are scaled by training
    statistics; a missing value is imputed and flagged, unless the column stands in ``required``. Categorical columns
    allow values that training has not seen. ``log`` takes log(1 + x) first, as for counts; ``keep`` uses only so many
    numeric columns, those that vary most in training, as for thousands of genes.
    """

    kind: Literal["tabular"]
    numeric: list[str] = []
    categorical: list[str] = []
    required: list[str] = []
    log: bool = False
    keep: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _columns(self) -> TabularConfig:
        columns = self.numeric + self.categorical
        if not columns:
            raise ValueError("a tabular modality needs 'numeric' or 'categorical' columns")
        if len(set(columns)) != len(columns):
            raise ValueError("a column is named twice")
        if unknown := set(self.required) - set(columns):
            raise ValueError(f"'required' names columns that are not listed: {', '.join(sorted(unknown))}")
        return self


ModalityConfig = Annotated[ImageConfig | VolumeConfig | TabularConfig, Field(discriminator="kind")]


def _sides(value: Any, count: int, names: str) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return (value,) * count
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"is one number or {names}, got {value!r}")
    return value
