"""The arrays of one analysis run as they lie in Tiled: beside its table, addressed by frame."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from bluesky_tiled_plugins.utils import truncate_json_overflow
from numpy.typing import NDArray
from tiled.client.utils import ClientError
from tiled.structures.array import ArrayStructure, BuiltinDtype
from tiled.structures.core import Spec, StructureFamily
from tiled.structures.data_source import DataSource

from dvfb_stream.catalog.place import ARRAYS, found_or_created, plain
from dvfb_stream.catalog.store_errors import StoreRefusedError, StoreUnavailableError

if TYPE_CHECKING:
    from tiled.client.container import Container

_KEPT = "arrays"
"""In the start of a run that has arrays, under ``analysis``: their shapes by name, so that one query finds such runs:
``KeyPresent("start.analysis.arrays.features")``."""

CHUNK = 64
"""Frames in a file: those of a full call of the spool. Of the largest array, the coefficients, that is 225 kB, which
a call of one row writes anew. Arrays grow by whole chunks: Tiled makes the first one whole, and keeps each length
that an array ever had, with a list of its chunks."""

_BYTES_A_REQUEST = 4 << 20

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,59}")
"""Names that can be a key: part of an address."""
_TYPES = frozenset({"<f4", "<f8"})
"""Those that have NaN, which stands where a frame has no array."""
_OCTETS = "application/octet-stream"
_CONFLICT = 409


@dataclass(frozen=True, slots=True)
class ArrayKey:
    """What a descriptor says of an array."""

    shape: tuple[int, ...]
    """Of one frame's."""
    dtype: np.dtype[Any]


def array_keys(descriptor: Mapping[str, Any]) -> dict[str, ArrayKey]:
    """Return the data keys of a descriptor that are arrays of floating numbers, by name."""
    return {
        name: ArrayKey(tuple(data_key["shape"]), np.dtype(data_key["dtype_numpy"]))
        for name, data_key in descriptor["data_keys"].items()
        if data_key.get("dtype") == "array"
        and data_key.get("dtype_numpy") in _TYPES
        and _are_lengths(data_key.get("shape"))
        and _NAME.fullmatch(name)
    }


def _are_lengths(shape: Any) -> bool:
    return bool(shape) and all(type(length) is int and length > 0 for length in shape)


class RunArrays:
    """What an analysis run keeps besides its rows: ``<uid>/arrays/<name>``, one array a name; element k is frame k's.

    Whatever is put twice is there once, and where a frame has nothing, there is NaN.

    Parameters
    ----------
    run
        Plain Tiled client of the run.
    descriptor
        Of its rows.
    access_tags
        Of the run.
    """

    def __init__(self, run: Container, descriptor: Mapping[str, Any], access_tags: Any) -> None:
        self._run = run
        self._descriptor = descriptor
        self._access_tags = access_tags
        self._keys = array_keys(descriptor)
        self._opened: dict[str, _FrameAddressed] = {}

    def put(self, events: Mapping[int, Mapping[str, Any]], confirm: Callable[[], None]) -> None:
        """Store the arrays of events, in place of those of the same frames; when this returns, they were read back.

        Parameters
        ----------
        events
            By frame.
        confirm
            Called before each request that writes; raises where none must.

        Raises
        ------
        StoreRefusedError
            When an event has not the arrays that the descriptor names.
        StoreUnavailableError
            When they were not there when they were read back.
        Exception
            What Tiled's client raises.
        """
        if not self._keys or not events:
            return
        frames = np.array(sorted(events), np.int64)
        if frames[0] < 0:
            raise StoreRefusedError(
                f"frame {frames[0]} cannot have arrays: frames count from 0", everything=False
            )
        values = {name: self._values(events, frames.tolist(), name) for name in self._keys}
        for name, array in self._open().items():
            array.put(frames, values[name], confirm)

    def _values(
        self, events: Mapping[int, Mapping[str, Any]], frames: Sequence[int], name: str
    ) -> NDArray[Any]:
        key = self._keys[name]
        values = np.empty((len(frames), *key.shape), key.dtype)
        for value, frame in zip(values, frames, strict=True):
            try:
                given = np.asarray(events[frame]["data"][name], key.dtype)
                if given.shape != key.shape:
                    raise ValueError(f"its shape is {given.shape}, not {key.shape}")
            except (KeyError, TypeError, ValueError) as error:
                reason = f"{name!r} of frame {frame} is not as its descriptor says ({error!r})"
                raise StoreRefusedError(reason, everything=False) from error
            value[...] = given
        return values

    def _open(self) -> dict[str, _FrameAddressed]:
        if not self._opened:
            stream = plain(self._found_or_created_stream())
            opened = {name: self._found_or_created(stream, name, key) for name, key in self._keys.items()}
            kept = self._run.metadata_copy()[0]["start"]["analysis"].get(_KEPT) or {}
            shapes = {name: list(key.shape) for name, key in self._keys.items()}
            if any(kept.get(name) != shape for name, shape in shapes.items()):
                self._run.update_metadata({"start": {"analysis": {_KEPT: shapes}}}, drop_revision=True)
            self._opened = opened
        return self._opened

    def _found_or_created_stream(self) -> Any:
        data_keys = {name: self._descriptor["data_keys"][name] for name in self._keys}
        described = {
            # Its own: no two streams have one descriptor.
            "uid": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self._descriptor['uid']}:{ARRAYS}")),
            "time": self._descriptor["time"],
            "data_keys": data_keys,
            "configuration": {},
            "hints": {},
        }
        return found_or_created(
            self._run,
            ARRAYS,
            metadata=truncate_json_overflow(described),
            specs=[Spec("BlueskyEventStream", version="3.0"), Spec("composite")],
            access_tags=self._access_tags,
        )

    def _found_or_created(self, stream: Container, name: str, key: ArrayKey) -> _FrameAddressed:
        node = stream.get(name)
        if node is None:
            node = self._made(stream, name, key)
        length, *shape = node.structure().shape
        if tuple(shape) != key.shape:
            raise StoreRefusedError(
                f"the run keeps {name!r} of shape {tuple(shape)}, not {key.shape}", everything=False
            )
        return _FrameAddressed(node, key, length)

    def _made(self, stream: Container, name: str, key: ArrayKey) -> Any:
        structure = ArrayStructure(
            data_type=BuiltinDtype.from_numpy_dtype(key.dtype),
            shape=(0, *key.shape),
            chunks=((CHUNK,), *((length,) for length in key.shape)),
            dims=("frame", *(f"{name}_{axis}" for axis in range(1, len(key.shape) + 1))),
        )
        source = DataSource(
            structure=structure, structure_family=StructureFamily.array, mimetype="application/x-zarr"
        )
        try:
            return stream.new(
                StructureFamily.array,
                [source],
                key=name,
                metadata={},
                specs=[],
                access_tags=self._access_tags,
            )
        except ClientError as error:
            if error.response.status_code != _CONFLICT:
                raise
            return stream[name]


@dataclass(slots=True)
class _FrameAddressed:
    """One array in Tiled."""

    node: Any
    key: ArrayKey
    length: int
    """Elements that are there, of frames from 0 on."""

    def put(self, frames: NDArray[np.int64], values: NDArray[Any], confirm: Callable[[], None]) -> None:
        """Write the elements of ascending frames, NaN where nothing was between and behind them; read it back."""
        most = max(CHUNK, _BYTES_A_REQUEST // values[0].nbytes // CHUNK * CHUNK)
        for part in _near(frames, most):
            begin, end = int(frames[part][0]), int(frames[part][-1]) + 1
            for first in range(self.length, begin - begin % CHUNK, most):
                self._write(first, self._nothing(min(most, begin - begin % CHUNK - first)), confirm)
            start = min(begin, self.length)
            block = self._nothing((end if end <= self.length else -(-end // CHUNK) * CHUNK) - start)
            there = min(end, self.length)
            if there - begin > np.count_nonzero(frames[part] < there):
                block[begin - start : there - start] = elements_of(self.node, self.key, begin, there)
            block[frames[part] - start] = values[part]
            self._write(start, block, confirm)

    def _nothing(self, elements: int) -> NDArray[Any]:
        return np.full((elements, *self.key.shape), np.nan, self.key.dtype)

    def _write(self, begin: int, block: NDArray[Any], confirm: Callable[[], None]) -> None:
        confirm()
        self._patch(begin, block)
        end = begin + len(block)
        if not np.array_equal(elements_of(self.node, self.key, begin, end), block, equal_nan=True):
            raise StoreUnavailableError(
                f"elements {begin} to {end - 1} of {self.node.uri} were not there when they were read back"
            )

    def _patch(self, begin: int, block: NDArray[Any]) -> None:
        # Not by the client's own method, which tries again for most of a minute, and makes ValueErrors of answers.
        response = self.node.context.http_client.patch(
            self.node.item["links"]["full"],
            content=block.tobytes(),
            headers={"Content-Type": _OCTETS},
            params={"offset": str(begin), "shape": ",".join(map(str, block.shape)), "extend": True},
        )
        response.raise_for_status()
        self.length = int(response.json()["shape"][0])


def elements_of(node: Any, key: ArrayKey, begin: int, end: int) -> NDArray[Any]:
    """Return elements of an array in Tiled, (end - begin, ...); fewer where it ends before.

    Raises
    ------
    StoreUnavailableError
        When the answer was cut short.
    Exception
        What Tiled's client raises.
    """
    # Tiled's ArrayClient makes a graph of tasks of each read, which takes longer than the answer.
    response = node.context.http_client.get(
        node.item["links"]["full"], headers={"Accept": _OCTETS}, params={"slice": f"{begin}:{end}"}
    )
    response.raise_for_status()
    try:
        return np.frombuffer(response.read(), key.dtype).reshape(-1, *key.shape)
    except ValueError as error:
        raise StoreUnavailableError(f"elements of {node.uri} could not be read back ({error})") from error


def _near(frames: NDArray[np.int64], most: int) -> Iterator[slice]:
    """Give the parts of ascending frames that one request writes: near one another, and not more than `most`."""
    start = 0
    for end in range(1, len(frames) + 1):
        is_last = end == len(frames)
        if is_last or frames[end] - frames[end - 1] > CHUNK or frames[end] - frames[start] >= most:
            yield slice(start, end)
            start = end
