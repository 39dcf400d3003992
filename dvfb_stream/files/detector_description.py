"""How a user or a configuration file describes a detector."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dvfb_stream.files.beam_centre import BeamCentre, CentreUnit, PixelSize
from dvfb_stream.files.detector import Detector
from dvfb_stream.files.masks import read_mask
from dvfb_stream.files.poni_geometry import detector_model, open_poni
from dvfb_stream.files.run_detector import BeamCentrePlaces
from dvfb_stream.frames import Geometry, InvalidValues


class DetectorDescription(BaseModel):
    """Where the direct beam hits a detector and which of its pixels can be believed, as people write it down.

    One of `center_x` and `center_y`, `poni`, `from_run` and `from_file` must be given: a beam centre is never
    guessed. Where a run's documents say one, that wins over the other two. A pixel is valid where every mask file,
    the detector's definition and the .poni file's detector say so.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    center_x: float | None = None
    """Direct beam, to the right."""
    center_y: float | None = None
    """Direct beam, down."""
    unit: CentreUnit = CentreUnit.PIXEL
    """Of the two: ``pixel``, from the centre of the first pixel; ``mm`` or ``m``, from its outer corner."""
    pixel_mm: float | tuple[float, float] | None = None
    """Height and width of a pixel, or its side, in millimetres; needed where the centre is a length or pixels are not
    square, and neither the detector nor the .poni file tells."""
    poni: Path | None = None
    """pyFAI geometry file, instead of the two centres."""
    from_run: BeamCentrePlaces | None = None
    """Where the documents of a run say the centre; not for files, which have none."""
    from_file: bool = False
    """Whether the files that frames lie in may say the centre; the other three win."""
    mask: tuple[str, ...] = ()
    """Mask files, one or a list; in them 1 means masked. HDF5: ``file.h5::/path``."""
    file_mask: bool = True
    """Whether commands use what a frame's own file says of invalid pixels: ``pixel_mask`` (1 = masked), ``Dummy``."""
    dummy: tuple[float, ...] = ()
    """Values, one or a list, that mark a pixel as invalid: pyFAI's word. Without it, what is usual does: negative
    integers, 2^n-1 and 2^n-2 of DECTRIS, NaN."""
    delta: float = Field(default=0.0, ge=0)
    """Values no further than this from one of `dummy` mark a pixel, too."""
    counts_per_unit: float | None = Field(default=None, gt=0)
    """Counts that a pixel value of 1 stands for, where frames were normalised; without it each frame tells."""
    detector: str | None = None
    """pyFAI's name of the detector, for the gaps between its modules."""
    shape: tuple[int, int] | None = Field(default=None)
    """(rows, columns) of a frame; needed where neither a mask, the .poni file nor the detector tells."""

    @field_validator("mask", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (str(value),) if isinstance(value, str | Path) else value

    @field_validator(
        "center_x", "center_y", "pixel_mm", "dummy", "delta", "counts_per_unit", "shape", mode="before"
    )
    @classmethod
    def _no_yes_or_no(cls, value: object) -> object:
        # pydantic takes true for 1, and dummy = true would mask all pixels of one count.
        if any(isinstance(part, bool) for part in (value if isinstance(value, list | tuple) else [value])):
            raise ValueError(f"must be numbers, not {value}")
        return value

    @field_validator("dummy", mode="before")
    @classmethod
    def _one_value_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, int | float) else value

    @field_validator("shape")
    @classmethod
    def _positive(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and min(value) < 1:
            raise ValueError(f"shape must be two positive integers (rows, columns), not {value}")
        return value

    @field_validator("pixel_mm")
    @classmethod
    def _positive_size(cls, value: float | tuple[float, float] | None) -> float | tuple[float, float] | None:
        if value is not None and min(value if isinstance(value, tuple) else (value,)) <= 0:
            raise ValueError(f"pixel_mm must be positive millimetres, not {value}")
        return value

    @model_validator(mode="after")
    def _delta_of_something(self) -> Self:
        if self.delta and not self.dummy:
            raise ValueError("delta is how far from dummy a value may be: give dummy, too")
        return self

    @model_validator(mode="after")
    def _one_centre(self) -> Self:
        given = [name for name in ("center_x", "center_y") if getattr(self, name) is not None]
        if self.poni is not None and given:
            raise ValueError("give the beam centre once: either center_x and center_y, or poni")
        elsewhere = self.from_run is not None or self.from_file
        if self.poni is None and len(given) != 2 and (given or not elsewhere):
            missing = "center_y" if given == ["center_x"] else "center_x" if given else "the beam centre"
            raise ValueError(f"{missing} is missing: give center_x and center_y in pixels, or a poni file")
        return self

    def load(self, folder: str | Path = ".") -> Detector:
        """Read all files that the description names, once.

        Parameters
        ----------
        folder
            What relative paths start from: a configuration file's folder.

        Raises
        ------
        GeometryError
            When a file is missing or not what it should be.
        """
        folder = Path(folder)
        centre = None
        if self.center_x is not None and self.center_y is not None:
            centre = BeamCentre(x=self.center_x, y=self.center_y, unit=self.unit)
        size = None
        if self.pixel_mm is not None:
            height, width = (
                self.pixel_mm if isinstance(self.pixel_mm, tuple) else (self.pixel_mm, self.pixel_mm)
            )
            size = PixelSize(height=height, width=width)
        return Detector(
            centre=centre,
            poni=None if self.poni is None else open_poni(folder / self.poni),
            model=None if self.detector is None else detector_model(self.detector),
            pixel_size=size,
            shape=self.shape,
            file_mask=self.file_mask,
            invalid_values=InvalidValues(values=self.dummy, delta=self.delta) if self.dummy else None,
            counts_per_unit=self.counts_per_unit,
            masks=tuple((f"mask {file}", read_mask(str(folder / file))) for file in self.mask),
        )

    def geometry(self, shape: tuple[int, int] | None = None, folder: str | Path = ".") -> Geometry:
        """Return the geometry of frames of `shape`; None: the shape that the description or its files tell.

        Raises
        ------
        GeometryError
            As `load`, and when the frames' shape is another one or nothing tells it.
        """
        return self.load(folder).geometry(shape)
