"""A folder of real frames with a ``labels.json``: which files, masks, beam centres, set-ups and known labels."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from dvfb_stream.errors import SettingsError
from dvfb_stream.files import open_frames, read_mask
from dvfb_stream.files.reading import DATASET_SEPARATOR
from dvfb_stream.frames import Frame, Geometry
from dvfb_stream.labels import ALL_LABELS

LIST = "labels.json"
LAYOUT = (
    "a list of frames, each with `file`, `setup`, `beam_center_x`, `beam_center_y`, `dataset` where the file is "
    "HDF5, `mask` where there is one, and `labels` (true or false; anything else is not known)"
)
GRAZING = re.compile(r"\b(gi-?saxs|gi-?waxs|gi-?xd|gid|grazing[ -]incidence|yoneda)\b", re.IGNORECASE)
"""Words of those who describe a frame, by which it was taken at grazing incidence."""
TRANSMISSION = re.compile(r"\b(saxs|waxs|swaxs|usaxs)\b", re.IGNORECASE)
"""Words by which it was not, where none of the others is said."""


class _Entry(BaseModel):
    """A frame as ``labels.json`` has it; what it says besides is for people."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    id: str = Field(default="", max_length=400)
    file: str = Field(min_length=1, max_length=400)
    dataset: str | None = Field(default=None, max_length=400)
    mask: str | None = Field(default=None, max_length=400)
    setup: str = Field(min_length=1, max_length=400)
    beam_center_x: float
    beam_center_y: float
    labels: dict[str, object] = Field(default_factory=dict)
    kind: object = None
    remarks: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RealFrame:
    """A frame of the folder, not read yet."""

    name: str
    """Its ``id``, or file and dataset."""
    setup: str
    """Detector, optics and kind of sample; frames that share one say little that is new."""
    labels: dict[str, bool]
    """Whether it has them; a label that is not known is not in it."""
    spec: str
    """Where its pixels are, as `open_frames` takes it."""
    mask: str | None
    """Where its mask is, as `read_mask` takes it."""
    center_x: float
    center_y: float

    def read(self) -> Frame:
        """Return pixels and geometry.

        Raises
        ------
        FrameError, GeometryError
            When file, dataset or mask are not there or do not fit.
        """
        with open_frames(self.spec) as file:
            pixels = file.read(0)
        rows, columns = pixels.shape
        mask = None if self.mask is None else read_mask(self.mask)
        geometry = Geometry(shape=(rows, columns), center_x=self.center_x, center_y=self.center_y, mask=mask)
        return Frame(pixels, geometry)


def read_folder(folder: Path, *, without: Collection[str] = ()) -> list[RealFrame]:
    """Return the frames of a folder, in the order of its list.

    Parameters
    ----------
    folder
        Holds ``labels.json``, a list of frames, and the files that it names: each frame's ``file``, ``setup``,
        ``beam_center_x`` and ``beam_center_y`` (pixel centres at integers), ``dataset`` and ``mask`` in that file
        where it is HDF5, else the mask's own file (1 = masked), and ``labels``.
    without
        Set-ups to leave out.

    Raises
    ------
    SettingsError
        When the folder is not laid out so, or no frame is left.
    """
    path = folder / LIST
    try:
        entries = TypeAdapter(list[_Entry]).validate_json(path.read_bytes())
    except OSError as error:
        raise SettingsError(
            f"{folder} is no folder of labelled frames: {path} cannot be read ({error.strerror}); it is {LAYOUT}"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise SettingsError(
            f"{path} is not laid out as expected: {where}: {first['msg']}; it is {LAYOUT}"
        ) from error
    setups = {entry.setup for entry in entries}
    unknown = sorted(set(without) - setups)
    if unknown:
        raise SettingsError(f"{path} has no set-up {unknown[0]!r}; it has {', '.join(sorted(setups))}")
    chosen = [entry for entry in entries if entry.setup not in without]
    if not chosen:
        raise SettingsError(f"{path} names no frame{' of other set-ups' if entries else ''}; it is {LAYOUT}")
    return [_frame(folder, entry) for entry in chosen]


def _frame(folder: Path, entry: _Entry) -> RealFrame:
    spec = str(folder / entry.file)
    mask = None if entry.mask is None else str(folder / entry.mask)
    if entry.dataset is not None:
        # A frame's mask lies in the frame's own HDF5 file.
        mask = None if entry.mask is None else f"{spec}{DATASET_SEPARATOR}{entry.mask}"
        spec = f"{spec}{DATASET_SEPARATOR}{entry.dataset}"
    return RealFrame(
        name=entry.id or f"{entry.file} {entry.dataset or ''}".rstrip(),
        setup=entry.setup,
        labels=_known(entry),
        spec=spec,
        mask=mask,
        center_x=entry.beam_center_x,
        center_y=entry.beam_center_y,
    )


def _known(entry: _Entry) -> dict[str, bool]:
    """Return what is known of a frame's labels; whether it is grazing also from what people wrote of it."""
    stated = {label: value for label in ALL_LABELS if isinstance(value := entry.labels.get(label), bool)}
    written = f"{entry.kind} {entry.remarks}"
    if "grazing" not in entry.labels:
        if GRAZING.search(written):
            stated["grazing"] = True
        elif TRANSMISSION.search(written):
            stated["grazing"] = False
    return {label: stated[label] for label in ALL_LABELS if label in stated}
