"""The one layout of a row: `Annotation.as_row`, the analysis run's events, CSV, JSON lines and tables all have it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from dvfb_stream.errors import MissingExtraError
from dvfb_stream.labels import FURTHER_LABELS, LABELS, TITLES

if TYPE_CHECKING:
    from pandas import DataFrame

    from dvfb_stream.frames import Geometry


class Kind(StrEnum):
    """What a column holds, in the words of event-model; in each, one value says that nothing is known."""

    NUMBER = "number"
    """64-bit float; NaN where it is not known: ``null`` in JSON, an empty cell in CSV."""
    INTEGER = "integer"
    """64-bit integer; 0 where it is not known."""
    TEXT = "string"
    """Text; empty where it is not known."""

    @property
    def missing(self) -> float | int | str:
        """What stands where the value is not known."""
        missing: dict[Kind, float | int | str] = {Kind.NUMBER: math.nan, Kind.INTEGER: 0, Kind.TEXT: ""}
        return missing[self]

    @property
    def dtype(self) -> str:
        """Type of an array of them, as NumPy and pandas write it."""
        return {Kind.NUMBER: "<f8", Kind.INTEGER: "<i8", Kind.TEXT: "object"}[self]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of every row."""

    name: str
    kind: Kind
    meaning: str


_SOURCE = (
    Column("file", Kind.TEXT, "File that the frame was read from; empty for frames of a Bluesky run."),
)

EVENT_COLUMNS: tuple[Column, ...] = (
    Column(
        "frame", Kind.INTEGER, "Index of the frame in its data key or file, from 0; -1: it came from nowhere."
    ),
    *(
        Column(label, Kind.NUMBER, f"Calibrated probability of {TITLES[label]!r}, 0 to 1.")
        for label in LABELS
    ),
    *(
        Column(
            label,
            Kind.NUMBER,
            f"Calibrated probability of {TITLES[label]!r}, 0 to 1; NaN of a model that does not know it.",
        )
        for label in FURTHER_LABELS
    ),
    Column("labels", Kind.TEXT, "Accepted labels, separated by commas."),
    Column(
        "doubtful", Kind.TEXT, "Labels neither accepted nor rejected, separated by commas; none of `labels`."
    ),
    Column(
        "measured_order",
        Kind.INTEGER,
        "Order of rotation that stands out along the azimuth: 2, 4, 6; 0: none.",
    ),
    Column(
        "measured_contrast", Kind.NUMBER, "Least contrast of that order: standard deviation over the mean."
    ),
    Column(
        "fit_residual", Kind.NUMBER, "Share of the view's sum of squares that the coefficients leave, 0 to 1."
    ),
    Column("novelty", Kind.NUMBER, "Share of the model's own frames that look more familiar to it, 0 to 1."),
    Column("status", Kind.TEXT, "ok, failed (not read or not annotated) or dropped (not let in)."),
    Column("reason", Kind.TEXT, "Why there are no probabilities; empty where there are."),
    Column("remark", Kind.TEXT, "What a reader should know although there are probabilities; mostly empty."),
    Column("masked_pixels", Kind.INTEGER, "Detector pixels of the frame that were not believed."),
    Column("event_uid", Kind.TEXT, "uid of the raw event that brought the frame."),
    # Not `seq_num`, which is the name of the analysis events' own in Tiled's tables.
    Column("event_seq_num", Kind.INTEGER, "Number of that raw event in its stream, from 1."),
    Column(
        "center_x", Kind.NUMBER, "Direct beam, to the right, in pixels, with which the frame was annotated."
    ),
    Column("center_y", Kind.NUMBER, "Direct beam, downwards, in pixels."),
    Column(
        "center_source",
        Kind.TEXT,
        "Who says so: a file, its header, a run; empty where it was given in numbers.",
    ),
)
"""Those that differ from frame to frame: the data keys of an analysis run's events."""

_RUN = (
    Column("time", Kind.NUMBER, "When the frame was taken, seconds since 1970."),
    Column("run_uid", Kind.TEXT, "uid of the raw run."),
    Column("stream", Kind.TEXT, "Event stream of the raw run."),
    Column("data_key", Kind.TEXT, "Data key of the detector's image."),
    Column("model", Kind.TEXT, "Name of the model that says so."),
    Column("model_version", Kind.TEXT, "Its version."),
    Column("model_sha256", Kind.TEXT, "SHA-256 of its weights, hexadecimal."),
    Column("analysis_uid", Kind.TEXT, "uid of the analysis run that keeps the row; empty where none does."),
)

COLUMNS: tuple[Column, ...] = (*_SOURCE, *EVENT_COLUMNS, *_RUN)
"""All, in order. Of a stored row the last are in the event's time and the analysis run's start document."""

_BLANK: dict[str, Any] = {column.name: column.kind.missing for column in COLUMNS}


class HasRow(Protocol):
    """What can be written as a row; an `Annotation` is."""

    def as_row(self) -> dict[str, Any]:
        """Return the row."""
        ...


def row_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole row of those values that are known.

    Raises
    ------
    KeyError
        When there is no such column.
    """
    if unknown := values.keys() - _BLANK.keys():
        raise KeyError(f"there are no columns {sorted(unknown)}; there are {', '.join(_BLANK)}")
    return {**_BLANK, **values}


def centre_columns(geometry: Geometry | None) -> dict[str, float | str]:
    """Return what a row says of the beam centre; nothing where the frame's geometry is not known."""
    if geometry is None:
        return {}
    return {
        "center_x": geometry.center_x,
        "center_y": geometry.center_y,
        "center_source": geometry.source,
    }


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row for JSON and CSV, which have no NaN: None stands in its place."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()
    }


def to_dataframe(rows: Iterable[HasRow | Mapping[str, Any]]) -> DataFrame:
    """Return a table of annotations, or of rows as `dvfb_stream.catalog.read_annotations` gives them.

    It has the columns `COLUMNS` whatever the rows, none included.

    Raises
    ------
    MissingExtraError
        When pandas is not installed.
    """
    try:
        from pandas import DataFrame
    except ImportError as error:
        raise MissingExtraError("pandas", "tiled") from error
    flat = [row if isinstance(row, Mapping) else row.as_row() for row in rows]
    return DataFrame(flat, columns=list(_BLANK)).astype(
        {column.name: column.kind.dtype for column in COLUMNS}
    )
