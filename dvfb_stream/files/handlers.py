"""Frames that only a handler can read: a class that a package or the beamline registers for a resource's spec."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files.references import HandledFrame
from dvfb_stream.files.regular_files import refuse_pipes_and_devices

HANDLER_GROUPS = ("databroker.handlers",)
"""Entry points by which packages register handlers."""

MOST_KEPT_BYTES = 256 * 2**20
"""Of the frames of one datum: 16 of a 4-megapixel detector. Larger datums are read once a frame."""

Handler = Callable[..., Any]

_Key = tuple[str, str, str]


@dataclass(slots=True, eq=False)
class _Open:
    handler: Any
    runs: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """The frames of the datum read last."""

    key: _Key
    datum: str
    frames: NDArray[Any]


class Handlers:
    """Keeps handlers, each for the runs that speak of its resource; the least recently used goes for one more.

    Parameters
    ----------
    max_open
        Handlers kept at a time.
    classes
        By spec, besides those that packages register.
    """

    def __init__(self, max_open: int, classes: Mapping[str, Handler]) -> None:
        self._max_open = max_open
        self._classes = dict(classes)
        self._registered: dict[str, Any] | None = None
        self._open: OrderedDict[_Key, _Open] = OrderedDict()
        self._kept: _Kept | None = None

    def __len__(self) -> int:
        """Handlers kept now."""
        return len(self._open)

    def read(self, frame: HandledFrame, run: str) -> NDArray[Any]:
        """Return a frame of a datum; see `FrameReader`.

        What a handler raises means that its file may be late, unless it does not take the kwargs.
        """
        spec, path, resource, datum, position = (
            frame.spec,
            frame.path,
            frame.resource,
            frame.datum,
            frame.position,
        )
        key = (spec, path, repr(sorted(resource.items())))
        where = f"the datum {dict(datum)} of {path}"
        try:
            refuse_pipes_and_devices(path)
            frames = self._frames(key, resource, datum, run)
            if frames.ndim > 2:
                if position >= len(frames):
                    raise NotThereYetError(f"{where} has {len(frames)} frames, none with number {position}")
                frames, where = frames[position], f"{where}[{position}]"
            return frame.expected.check(frames, where)
        except NotThereYetError:
            self._drop(key)  # it may have read its file when that was shorter
            raise
        except FrameError:
            raise
        except TypeError as error:
            self._drop(key)
            raise FrameError(
                f"the handler of {spec} for {path} does not take what the documents say, {dict(resource)} and "
                f"{dict(datum)}: {error}"
            ) from error
        except Exception as error:  # a handler may raise anything while its file is late
            self._drop(key)
            raise NotThereYetError(
                f"the handler of {spec} for {path} raised {type(error).__name__}: {error}"
            ) from error

    def _frames(
        self, key: _Key, resource: Mapping[str, Any], datum: Mapping[str, Any], run: str
    ) -> NDArray[Any]:
        """Return a datum's image, or its frames in order."""
        spec, path, _ = key
        known = self._open.get(key)
        runs = {run} if known is None else known.runs | {run}
        if known is not None and run not in known.runs:
            self._drop(key)  # the file may have been written anew
            known = None
        if known is None:
            # Under its path as text, as event-model's Filler hands it over.
            known = self._open[key] = _Open(self._class(spec)(path, **resource), runs)
            while len(self._open) > self._max_open:
                _close(self._open.popitem(last=False)[1].handler)
        self._open.move_to_end(key)
        name = repr(sorted(datum.items()))
        if self._kept is not None and (self._kept.key, self._kept.datum) == (key, name):
            return self._kept.frames
        self._kept = None
        frames = np.asarray(known.handler(**datum))
        if frames.ndim > 2:
            frames = frames.reshape(-1, *frames.shape[-2:])
            if frames.nbytes <= MOST_KEPT_BYTES:
                # What a handler returns may be its own buffer, for the next datum.
                frames = np.array(frames)
                self._kept = _Kept(key, name, frames)
        return frames

    def _class(self, spec: str) -> Handler:
        if spec in self._classes:
            return self._classes[spec]
        if self._registered is None:
            self._registered = {e.name: e for group in HANDLER_GROUPS for e in entry_points(group=group)}
        if spec not in self._registered:
            raise FrameError(
                f"no handler reads resources of the spec {spec!r}; install the package that has it "
                f"(area-detector-handlers has many), or give handlers={{{spec!r}: its class}}"
            )
        try:
            found: Handler = self._registered[spec].load()
        except ImportError as error:
            raise FrameError(f"the handler of {spec!r} cannot be loaded: {error}") from error
        self._classes[spec] = found
        return found

    def _drop(self, key: _Key) -> None:
        known = self._open.pop(key, None)
        if known is not None:
            _close(known.handler)
        if self._kept is not None and self._kept.key == key:
            self._kept = None

    def release(self, run: str) -> None:
        """Close what is kept for that run alone."""
        for key, known in list(self._open.items()):
            known.runs.discard(run)
            if not known.runs:
                self._drop(key)

    def close(self) -> None:
        """Close all."""
        for key in list(self._open):
            self._drop(key)


def _close(handler: Any) -> None:
    close = getattr(handler, "close", None)
    if callable(close):
        with suppress(Exception):  # whatever it does, it is not used any more
            close()
