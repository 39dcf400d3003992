"""Annotates every X-ray scattering image a beamline takes, as it is taken, with the characteristics it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dvfb_stream.annotations import Annotation
from dvfb_stream.frames import Frame, Geometry, Origin

if TYPE_CHECKING:
    from dvfb_stream.annotator import Annotator

__all__ = ["Annotation", "Annotator", "Frame", "Geometry", "Origin"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; who only moves documents or asks for --help never needs it.
    if name == "Annotator":
        from dvfb_stream.annotator import Annotator

        return Annotator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
