"""Reads the arrays that analysis runs keep on request: coefficients and features, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.catalog.answers import told_apart
from dvfb_stream.catalog.place import ARRAYS, find_place, places_in, plain, table_of_run
from dvfb_stream.catalog.run_arrays import ArrayKey, elements_of
from dvfb_stream.catalog.run_table import frames_of
from dvfb_stream.errors import SettingsError

_BYTES_A_REQUEST = 16 << 20
_ELEMENTS_PASSED_OVER = 64
"""Between two frames of one request: a chunk more is read sooner than another request is answered."""


def read_array(
    client: Any, analysis_uid: str, name: str, frames: Sequence[int] | NDArray[np.integer] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """Return one of the arrays of an analysis run, frame by frame.

    Parameters
    ----------
    client
        Tiled client of the container of raw runs, of that of the analysis runs, or of what both lie in.
    analysis_uid
        uid of the analysis run, as rows have it in ``analysis_uid``.
    name
        ``"coefficients"``, (40, 11, 2): real and imaginary parts by radial index and order; or ``"features"``.
    frames
        Indices of frames; None: of all that have a row.

    Returns
    -------
    frames
        (N,) those that were asked for, in their order.
    array
        (N, ...) what is stored of each, 32-bit floats; NaN where a frame has none: it failed, was dropped, or was
        annotated when nobody asked for arrays.

    Raises
    ------
    SettingsError
        When `client` is no Tiled container, there is no such analysis run, it keeps no such array, or a frame's index
        is below 0 or no integer.
    StoreUnavailableError, StoreRefusedError
        When Tiled does not answer, or does not let us read.
    """
    asked = None if frames is None else _checked(frames)
    with told_apart(f"reading {name!r} of run {analysis_uid}"):
        run = _run(client, analysis_uid)
        node = _node(run, analysis_uid, name)
        if asked is None:
            table = table_of_run(run)
            asked = np.empty(0, np.int64) if table is None else np.unique(frames_of(table))
        structure = node.structure()
        length, *shape = structure.shape
        key = ArrayKey(tuple(shape), structure.data_type.to_numpy_dtype())
        array = np.full((len(asked), *shape), np.nan, key.dtype)
        order = np.argsort(asked, kind="stable")
        order = order[asked[order] < length]
        for part in _requests(asked[order], key):
            wanted = asked[order[part]]
            found = elements_of(node, key, int(wanted[0]), int(wanted[-1]) + 1)
            there = wanted - wanted[0] < len(found)
            array[order[part][there]] = found[wanted[there] - wanted[0]]
    return asked, array


def _checked(frames: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
    asked = np.asarray(frames)
    if asked.ndim != 1 or (asked.size and asked.dtype.kind not in "iu"):
        raise SettingsError(f"frames must be a list of indices, not {frames!r}")
    if (asked < 0).any():
        raise SettingsError(f"frames count from 0; there is no frame {asked.min()}")
    return asked.astype(np.int64)


def _run(client: Any, uid: str) -> Any:
    place = find_place(client)
    for container in places_in(client) if place is None else [place]:
        run = plain(container).get(uid)
        if run is not None:
            return run
    raise SettingsError(
        f"there is no analysis run {uid!r} in or beside {client.uri}; rows name theirs in 'analysis_uid', which is "
        "not the uid of the raw run"
    )


def _node(run: Any, uid: str, name: str) -> Any:
    stream = plain(run).get(ARRAYS)
    names = [] if stream is None else list(plain(stream))
    if stream is None or name not in names:
        raise SettingsError(
            f"analysis run {uid} keeps no {name!r}, but {', '.join(names) or 'no arrays'}; annotate it with "
            "--again --arrays NAME,..., and those that follow with arrays=[...]"
        )
    return plain(stream)[name]


def _requests(frames: NDArray[np.int64], key: ArrayKey) -> Iterator[slice]:
    """Part ascending frames such that each part is worth one request."""
    most = max(1, _BYTES_A_REQUEST // int(np.prod([key.dtype.itemsize, *key.shape])))
    start = 0
    for end in range(1, len(frames) + 1):
        is_last = end == len(frames)
        if (
            is_last
            or frames[end] - frames[end - 1] > _ELEMENTS_PASSED_OVER
            or frames[end] - frames[start] >= most
        ):
            yield slice(start, end)
            start = end
