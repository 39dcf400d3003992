"""Frames that only a handler can read: a class that a package or the beamline registers for a resource's spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files.checks import refuse_pipes_and_devices
from dvfb_stream.files.open_files_cache import MOST_KEPT_BYTES, KeptOpen
from dvfb_stream.files.references import HandledFrame

HANDLER_GROUPS = ("databroker.handlers",)
"""Entry points by which packages register handlers."""

Handler = Callable[..., Any]

_Key = tuple[str, str, str]


class Handlers:
    """Makes handlers, and asks them for frames.

    Parameters
    ----------
    kept
        Keeps handlers, as long as runs speak of their resources.
    classes
        By spec, besides those that packages register.
    """

    def __init__(self, kept: KeptOpen, classes: Mapping[str, Handler]) -> None:
        self._kept = kept
        self._classes = dict(classes)
        self._registered: dict[str, Any] | None = None

    def read(self, frame: HandledFrame, run: str) -> NDArray[Any]:
        """Return a frame of a datum; see `FrameReader`.

        What a handler raises means that its file may be late, unless it does not take the kwargs.
        """
        spec, path, position = frame.spec, frame.path, frame.position
        key = (spec, path, repr(sorted(frame.resource.items())))
        where = f"the datum {dict(frame.datum)} of {path}"
        try:
            refuse_pipes_and_devices(path)
            frames = self._frames(key, frame, run)
            if frames.ndim > 2:
                if position >= len(frames):
                    raise NotThereYetError(f"{where} has {len(frames)} frames, none with number {position}")
                frames, where = frames[position], f"{where} frame {position}"
            return frame.expected.check(frames, where)
        except NotThereYetError:
            self._kept.drop(key)  # it may have read its file when that was shorter
            raise
        except FrameError:
            raise
        except TypeError as error:
            self._kept.drop(key)
            raise FrameError(
                f"the handler of {spec} for {path} does not take what the documents say, {dict(frame.resource)} and "
                f"{dict(frame.datum)}: {error}"
            ) from error
        except Exception as error:  # a handler may raise anything while its file is late
            self._kept.drop(key)
            raise NotThereYetError(
                f"the handler of {spec} for {path} raised {type(error).__name__}: {error}"
            ) from error

    def _frames(self, key: _Key, frame: HandledFrame, run: str) -> NDArray[Any]:
        """Return a datum's image, or its frames in order."""

        def made() -> Any:
            self._kept.stacks.clear()
            # Under its path as text, as event-model's Filler hands it over.
            return self._class(frame.spec)(frame.path, **frame.resource)

        handler = self._kept.get(key, run, made)
        datum = (key, repr(sorted(frame.datum.items())))
        known = self._kept.stacks.get(datum)
        if known is not None:
            return known[1]
        self._kept.stacks.clear()
        frames = np.asarray(handler(**frame.datum))
        if frames.ndim > 2:
            frames = frames.reshape(-1, *frames.shape[-2:])
            if frames.nbytes <= MOST_KEPT_BYTES:
                # What a handler returns may be its own buffer, for the next datum.
                frames = np.array(frames)
                self._kept.stacks.put(datum, (None, frames), n_bytes=frames.nbytes)
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
