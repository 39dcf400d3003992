"""Documents as versions of event-model before 1.21 have them, in the form of today's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import quote

from dvfb_stream.callbacks.document_fields import Document, DocumentError, text

HDF5 = "application/x-hdf5"

MIMETYPES: Mapping[str, str] = {
    "AD_TIFF": "multipart/related;type=image/tiff",
    "AD_CBF": "multipart/related;type=image/cbf",
    "NPY_SEQ": "multipart/related;type=application/x-npy",
}
"""By spec; every other spec of a stream is taken to be of HDF5, as those are that bluesky-tiled-plugins knows."""

DATASETS: Mapping[str, str] = {
    **dict.fromkeys(("XSP", "XSP3", "TPX_HDF5"), "entry/instrument/detector/data"),
}
"""By spec, the dataset of a resource that names none; areaDetector's own else."""

AREA_DETECTOR_DATASET = "entry/data/data"
"""Where areaDetector's HDF5 plugin keeps its frames."""


def stream_resource_of_today(doc: Document) -> Document:
    """Return a StreamResource document with address, MIME type and parameters, where it has a spec and paths instead.

    Raises
    ------
    DocumentError
        When it has neither.
    """
    if "mimetype" in doc:
        return doc
    spec, kwargs = text(doc, "spec"), kwargs_of(doc)
    parameters = {key: value for key, value in kwargs.items() if key not in ("path", "frame_per_point")}
    mimetype = MIMETYPES.get(spec, HDF5)
    if "frame_per_point" in kwargs:
        parameters.setdefault("multiplier", kwargs["frame_per_point"])
    if mimetype == HDF5:
        dataset = kwargs.get("path") or kwargs.get("dataset") or kwargs.get("key")
        parameters["dataset"] = dataset or DATASETS.get(spec, AREA_DETECTOR_DATASET)
    root, path, is_windows = paths_of(doc)
    place = (PureWindowsPath(root) / path if is_windows else PurePosixPath(root or "/") / path).as_posix()
    address = f"file://localhost/{quote(place.lstrip('/'), safe='/:')}"
    is_folder = mimetype != HDF5 or path.endswith("/")
    return {
        **doc,
        "uri": address.rstrip("/") + "/" if is_folder else address,
        "mimetype": mimetype,
        "parameters": parameters,
    }


def paths_of(doc: Document) -> tuple[str, str, bool]:
    """Return root and path of a Resource, and whether they are those of Windows.

    Old documents may lack the root, where the path is whole, and say nothing of the system: a drive's letter does.

    Raises
    ------
    DocumentError
        When there is no path, or the root is no text.
    """
    root = doc.get("root") or ""
    if not isinstance(root, str):
        raise DocumentError(f"a resource's root must be text, not {root!r}")
    path = text(doc, "resource_path")
    semantics = doc.get("path_semantics")
    is_windows = semantics == "windows" or (semantics is None and bool(PureWindowsPath(root or path).drive))
    return root, path, is_windows


def kwargs_of(doc: Document) -> dict[str, Any]:
    """Return the kwargs of a Resource or a Datum, none where it has none; DocumentError where they are no mapping."""
    for name in ("resource_kwargs", "datum_kwargs"):
        kwargs = doc.get(name)
        if kwargs is None:
            continue
        if not isinstance(kwargs, Mapping):
            raise DocumentError(f"the field {name!r} must be a mapping, not {type(kwargs).__name__}")
        return dict(kwargs)
    return {}
