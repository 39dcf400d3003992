"""Annotates every X-ray scattering image a beamline takes, as it is taken, with the characteristics it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvfb_stream.lazy_imports import lazy_names

if TYPE_CHECKING:
    from dvfb_stream.annotations import Annotation
    from dvfb_stream.annotator import Annotator
    from dvfb_stream.frames import Frame, Geometry, InvalidValues, Origin

__all__ = ["Annotation", "Annotator", "Frame", "Geometry", "InvalidValues", "Origin"]

__version__ = "0.2.0.dev0"

__getattr__ = lazy_names(__name__, __file__)
