"""Frames that only a handler can read: a class that a package or the beamline registers for a resource's spec."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files.checks import is_coloured, refuse_pipes_and_devices
from dvfb_stream.files.described_shape import coloured
from dvfb_stream.files.handler_classes import Handler, HandlerClasses
from dvfb_stream.files.open_files_cache import MOST_KEPT_BYTES, KeptOpen
from dvfb_stream.files.references import HandledFrame, Remark, unheard

_Key = tuple[str, str, str]


class Handlers:
    """Makes handlers, and asks them for frames.

    Parameters
    ----------
    kept
        Keeps handlers, as long as runs speak of their resources.
    classes
        See `HandlerClasses`.
    """

    def __init__(self, kept: KeptOpen, classes: Mapping[str, Handler | str]) -> None:
        self._kept = kept
        self._classes = HandlerClasses(classes)

    def read(self, frame: HandledFrame, run: str, remark: Remark = unheard) -> NDArray[Any]:
        """Return a frame of a datum; see `FrameReader`.

        What a handler raises means that its file may be late, unless it does not take the kwargs.
        """
        spec, path, position = frame.spec, frame.path, frame.position
        key = (spec, path, repr(sorted(frame.resource.items())))
        where = f"the datum {dict(frame.datum)} of {path}"
        try:
            refuse_pipes_and_devices(path)
            frames = self._frames(key, frame, run)
            if is_coloured(frames.shape):
                raise FrameError(coloured(where))
            count = len(frames) if frames.ndim > 2 else 1
            if position >= count:
                raise NotThereYetError(f"{where} has {count} frames, none with number {position}")
            if frame.count is not None and count > frame.count:
                remark(
                    f"{path} has {count} frames of the datum {dict(frame.datum)}, where the documents say "
                    f"{frame.count}: the others have no rows."
                )
            if frames.ndim > 2:
                # Of what is computed as it is asked for, this frame alone.
                frames, where = np.asarray(frames[position]), f"{where} frame {position}"
            return frame.expected.check(np.asarray(frames), where)
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

    def load(self, spec: str) -> Handler:
        """Return the class for a spec, which may take seconds to import; FrameError where there is none."""
        with suppress(ImportError):
            # Registers filters of HDF5, as a beamline's profile does for the handlers that open files there.
            importlib.import_module("hdf5plugin")
        return self._classes.of(spec)

    def _frames(self, key: _Key, frame: HandledFrame, run: str) -> Any:
        """Return a datum's image, or its frames in order: an array, or one that is computed as it is asked for."""

        def made() -> Any:
            self._kept.stacks.clear()
            # Under its path as text, as event-model's Filler hands it over.
            return self.load(frame.spec)(frame.path, **frame.resource)

        handler = self._kept.get(key, run, made)
        datum = (key, repr(sorted(frame.datum.items())))
        known = self._kept.stacks.get(datum)
        if known is not None:
            return known[1]
        self._kept.stacks.clear()
        found = handler(**frame.datum)
        if isinstance(found, list | tuple) and any(hasattr(part, "columns") for part in found):
            raise FrameError(f"the handler of {frame.spec} for {frame.path} gives tables, not images")
        is_lazy = hasattr(found, "compute") and hasattr(found, "reshape") and hasattr(found, "ndim")
        frames = found if is_lazy else np.asarray(found)
        if frames.ndim > 3 and not is_coloured(frames.shape):
            frames = frames.reshape(-1, *frames.shape[-2:])
        if frames.ndim > 2 and is_lazy:
            self._kept.stacks.put(datum, (None, frames), n_bytes=0)
        elif frames.ndim > 2 and frames.nbytes <= MOST_KEPT_BYTES:
            # What a handler returns may be its own buffer, for the next datum.
            frames = np.array(frames)
            self._kept.stacks.put(datum, (None, frames), n_bytes=frames.nbytes)
        return frames
