"""Detector files, masks and geometries as they lie on a beamline's disks, read into the nouns of this project."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvfb_stream.lazy_imports import lazy_names

if TYPE_CHECKING:
    from dvfb_stream.files.detector import Detector
    from dvfb_stream.files.detector_description import DetectorDescription
    from dvfb_stream.files.frame_files import FrameFiles
    from dvfb_stream.files.images import FrameFile
    from dvfb_stream.files.masks import read_mask
    from dvfb_stream.files.poni_geometry import PoniGeometry, detector_mask, read_poni
    from dvfb_stream.files.reading import open_frames, read_frames
    from dvfb_stream.files.references import FrameReader, HandledFrame, Hdf5Frame, ImageFrame

__all__ = [
    "Detector",
    "DetectorDescription",
    "FrameFile",
    "FrameFiles",
    "FrameReader",
    "HandledFrame",
    "Hdf5Frame",
    "ImageFrame",
    "PoniGeometry",
    "detector_mask",
    "open_frames",
    "read_frames",
    "read_mask",
    "read_poni",
]

__getattr__ = lazy_names(__name__, __file__)
