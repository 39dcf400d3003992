"""What `Geometry.from_poni` and its like return: geometries from .poni files, pyFAI, NeXus and CBF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dvfb_stream.errors import GeometryError
from dvfb_stream.files.declared_centre import declared_centre
from dvfb_stream.files.file_facts import FileFacts
from dvfb_stream.files.header_facts import pilatus_facts
from dvfb_stream.files.poni_geometry import PyFaiGeometry, open_poni
from dvfb_stream.files.reading import open_frames
from dvfb_stream.frames import Geometry

Shape = tuple[int, int]


def geometry_of_poni(path: str | Path, shape: Shape | None = None) -> Geometry:
    """See `Geometry.from_poni`."""
    return _resolved(open_poni(path), shape)


def geometry_of_pyfai(integrator: Any, shape: Shape | None = None) -> Geometry:
    """See `Geometry.from_pyfai`."""
    lacking = [name for name in ("dist", "poni1", "rot1", "detector") if not hasattr(integrator, name)]
    if lacking:
        raise GeometryError(
            f"a pyFAI geometry has dist, poni1, poni2, rot1, rot2 and a detector; {type(integrator).__name__} "
            f"has no {lacking[0]}"
        )
    return _resolved(PyFaiGeometry(integrator, f"pyFAI's {type(integrator).__name__}"), shape)


def geometry_of_file(spec: str | Path) -> Geometry:
    """See `Geometry.from_nexus` and `Geometry.from_cbf`."""
    with open_frames(str(spec)) as frames:
        rows, columns = frames.read(0).shape
        return _declared(frames.facts, (rows, columns), str(spec))


def geometry_of_pilatus_header(header: str, shape: Shape) -> Geometry:
    """See `Geometry.from_cbf`."""
    return _declared(pilatus_facts(header), shape, "Pilatus header")


def _resolved(found: PyFaiGeometry, shape: Shape | None) -> Geometry:
    poni = found.resolved(shape)
    if poni.shape is None:
        raise GeometryError(
            f"{found.name} does not say the detector's shape; give shape=(rows, columns) of the frames"
        )
    return Geometry(
        shape=poni.shape,
        center_x=poni.center_x,
        center_y=poni.center_y,
        mask=poni.mask,
        pixel_aspect=poni.pixel_size.aspect,
        tilt=poni.tilt,
        source=found.name,
    )


def _declared(facts: FileFacts, shape: Shape, file: str) -> Geometry:
    center_x, center_y = declared_centre(facts, shape)
    return Geometry(
        shape=shape,
        center_x=center_x,
        center_y=center_y,
        mask=facts.mask,
        invalid_values=facts.invalid_values,
        pixel_aspect=facts.pixel_aspect or 1.0,
        source=f"{file}: {facts.source}",
    )
