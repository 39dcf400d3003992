"""Detector files, masks and geometries as they lie on a beamline's disks, read into the nouns of this project."""

from dvfb_stream.files.description import Detector, DetectorDescription
from dvfb_stream.files.detectors import PoniGeometry, detector_mask, read_poni
from dvfb_stream.files.masks import read_mask
from dvfb_stream.files.reading import FrameFile, open_frames, read_frames

__all__ = [
    "Detector",
    "DetectorDescription",
    "FrameFile",
    "PoniGeometry",
    "detector_mask",
    "open_frames",
    "read_frames",
    "read_mask",
    "read_poni",
]
