"""What was found on a frame: probabilities and accepted labels, or the reason why there are none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.frames import Origin
from dvfb_stream.labels import ALL_LABELS
from dvfb_stream.rows import row_of
from dvfb_stream.texts import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """Which model said so."""

    name: str
    version: str
    sha256: str
    """SHA-256 of the weights file, hexadecimal."""

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.sha256[:12]})"


class Status(StrEnum):
    """What became of a frame."""

    OK = "ok"
    """It was annotated."""
    FAILED = "failed"
    """It could not be read or annotated."""
    DROPPED = "dropped"
    """It was not let in, because frames came faster than they were annotated."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Annotation:
    """The row that every frame gets, whatever became of it."""

    status: Status
    model: ModelIdentity
    origin: Origin | None = None
    reason: str = ""
    """Why there are no probabilities; empty when `status` is ``ok``. Made `printable`, as is the remark."""
    remark: str = ""
    """What a reader of the row should know although there are probabilities; whole sentences."""
    masked_pixels: int = 0
    """Detector pixels of this frame that were not believed: the mask's, and those marked by their value."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Calibrated probability of each label that the model knows, in the order of `dvfb_stream.labels.ALL_LABELS`;
    empty when failed."""
    labels: tuple[str, ...] = ()
    """Accepted labels, closed under implication, in the order of `dvfb_stream.labels.ALL_LABELS`."""
    doubtful: tuple[str, ...] = ()
    """Labels that are neither accepted nor rejected, in the same order; none of them is in `labels`."""
    measured_order: int = 0
    """Order of rotation that stands out along the azimuth, measured without the network: 2, 4 or 6; 0: none does."""
    measured_contrast: float = math.nan
    """What of that order is there at least: standard deviation along the azimuth over the mean; NaN: nothing was
    measured."""
    fit_residual: float = math.nan
    """Share of the view's sum of squares that the Fourier-Bessel reconstruction leaves unexplained, 0 to 1."""
    novelty: float = math.nan
    """Share of held-out simulated frames with a label that look more familiar to the model than this one, 0 to 1."""
    coefficients: NDArray[np.complex64] | None = None
    """(n_radial, n_orders) Fourier-Bessel coefficients of the view, where they were asked for."""
    features: NDArray[np.float32] | None = None
    """(hidden,) of the network's first fully connected layer, where they were asked for."""

    def __post_init__(self) -> None:
        # Scripts may give its value.
        object.__setattr__(self, "status", Status(self.status))
        # They quote what somebody else has written, a file's name, a document, and ten thousand rows may wait.
        for name in ("reason", "remark"):
            # What is no text, from an annotator of somebody else's, is refused where its row is made.
            if isinstance(said := getattr(self, name), str):
                object.__setattr__(self, name, printable(said))

    @classmethod
    def failed(cls, reason: str, *, model: ModelIdentity, origin: Origin | None = None) -> Annotation:
        """Return the row of a frame that could not be annotated, for the stated reason."""
        return cls(status=Status.FAILED, model=model, origin=origin, reason=reason)

    @classmethod
    def dropped(cls, reason: str, *, model: ModelIdentity, origin: Origin | None = None) -> Annotation:
        """Return the row of a frame that was not let in, for the stated reason."""
        return cls(status=Status.DROPPED, model=model, origin=origin, reason=reason)

    @property
    def ok(self) -> bool:
        """Whether there are probabilities."""
        return self.status is Status.OK

    def as_row(self, **known: Any) -> dict[str, Any]:
        """Return the row of this annotation: flat, with all of `dvfb_stream.rows.COLUMNS` in their order.

        Parameters
        ----------
        known
            Further columns, for example ``file="a.tif"``; they win over what the annotation says.

        Raises
        ------
        KeyError
            When there is no such column.
        """
        origin = self.origin
        where: dict[str, Any] = {"frame": -1}
        if origin is not None:
            where = {
                "frame": origin.index,
                "run_uid": origin.run_uid,
                "stream": origin.stream,
                "data_key": origin.data_key,
                "event_uid": origin.event_uid,
            }
        return row_of(
            {
                **where,
                **{label: float(self.scores.get(label, math.nan)) for label in ALL_LABELS},
                "labels": ",".join(self.labels),
                "doubtful": ",".join(self.doubtful),
                "measured_order": int(self.measured_order),
                "measured_contrast": float(self.measured_contrast),
                "fit_residual": float(self.fit_residual),
                "novelty": float(self.novelty),
                "status": self.status.value,
                "reason": self.reason,
                "remark": self.remark,
                "masked_pixels": int(self.masked_pixels),
                "model": self.model.name,
                "model_version": self.model.version,
                "model_sha256": self.model.sha256,
                **known,
            }
        )

    def __repr__(self) -> str:
        said = (
            shorten(self.reason, 80, placeholder=" ...")
            if not self.ok
            else ", ".join(
                f"{label} {self.scores.get(label, math.nan):.2f}{mark}"
                for labels, mark in ((self.labels, ""), (self.doubtful, "?"))
                for label in labels
            )
        )
        where = "" if self.origin is None else f", frame {self.origin.index} of {self.origin.data_key!r}"
        return f"<Annotation {self.status}: {said or 'no labels'}{where}>"
