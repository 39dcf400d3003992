"""Frames that only a handler can read: a class that a package or the beamline registers for a resource's spec."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files.allowed_roots import EVERYWHERE, AllowedRoots
from dvfb_stream.files.checks import is_coloured, refuse_pipes_and_devices
from dvfb_stream.files.described_shape import coloured
from dvfb_stream.files.handler_classes import Handler, HandlerClasses
from dvfb_stream.files.handler_files import HandlerFiles
from dvfb_stream.files.open_files_cache import MOST_KEPT_BYTES, KeptOpen
from dvfb_stream.files.references import HandledFrame, Remark, unheard
from dvfb_stream.texts import printable

_Key = tuple[str, str, str]

_WIDTHS = re.compile(r"%[-+ #0]*(?:\d*\.)?(\d{4,})[a-zA-Z]|\{[^{}]*:[^{}\d]*(\d{4,})[^{}]*\}")
"""Of fields that are filled up: ``%0200000000d``, ``{:0200000000d}``."""

WIDEST_FIELD = 4_096
"""Characters: Linux takes no longer path."""


class Handlers:
    """Makes handlers, and asks them for frames.

    Parameters
    ----------
    kept
        Keeps handlers, as long as runs speak of their resources.
    classes
        See `HandlerClasses`.
    allowed
        Where resources may lie.
    files
        What looks at the files that handlers open; None: nothing does.
    """

    def __init__(
        self,
        kept: KeptOpen,
        classes: Mapping[str, Handler | str],
        allowed: AllowedRoots = EVERYWHERE,
        files: HandlerFiles | None = None,
    ) -> None:
        self._kept = kept
        self._classes = HandlerClasses(classes)
        self._allowed = allowed
        self._files = files

    def read(self, frame: HandledFrame, run: str, remark: Remark = unheard) -> NDArray[Any]:
        """Return a frame of a datum; see `FrameReader`.

        What a handler raises means that its file may be late, unless it does not take the kwargs.
        """
        spec, path, position = frame.spec, frame.path, frame.position
        key = (spec, path, repr(sorted(frame.resource.items())))
        where = f"the datum {dict(frame.datum)} of {path}"
        try:
            self._allowed.check(path)
            refuse_pipes_and_devices(path)
            _refuse_wide_fields(frame.resource)
            _refuse_wide_fields(frame.datum)
            with self._watched():
                found = self._found(key, frame, run)
                if is_coloured(found.shape):
                    raise FrameError(coloured(where))
                if position >= found.count:
                    raise NotThereYetError(f"{where} has {found.count} frames, none with number {position}")
                if frame.count is not None and found.count > frame.count:
                    remark(
                        f"{path} has {found.count} frames of the datum {dict(frame.datum)}, where the documents say "
                        f"{frame.count}: the others have no rows."
                    )
                if found.is_several:
                    where = f"{where} frame {position}"
                return frame.expected.check(np.asarray(found.frame(position)), where)
        except MemoryError:
            self._kept.drop(key)
            raise
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

    def _watched(self) -> AbstractContextManager[None]:
        return nullcontext() if self._files is None else self._files.watched()

    def load(self, spec: str) -> Handler:
        """Return the class for a spec, which may take seconds to import; FrameError where there is none."""
        with suppress(ImportError):
            # Registers filters of HDF5, as a beamline's profile does for the handlers that open files there.
            importlib.import_module("hdf5plugin")
        return self._classes.of(spec)

    def _found(self, key: _Key, frame: HandledFrame, run: str) -> _Datum:
        """Return a datum, with the frame that is asked for."""

        def made() -> Any:
            self._kept.stacks.clear()
            # Under its path as text, as event-model's Filler hands it over.
            return self.load(frame.spec)(frame.path, **frame.resource)

        handler = self._kept.get(key, run, made)
        datum = (key, repr(sorted(frame.datum.items())))
        known, frames = self._kept.stacks.get(datum) or (None, None)
        if isinstance(known, _Datum) and known.has(frame.position):
            return replace(known, frames=frames)
        self._kept.stacks.clear()
        found = _as_frames(handler(**frame.datum), frame)
        if found.is_several and found.is_lazy:
            self._kept.stacks.put(datum, (found, found.frames), n_bytes=0)
        elif found.is_several:
            # A copy: what a handler returns may be its own buffer, for the next datum. Of what is larger than that,
            # the frames that come next.
            part = found.from_on(frame.position, MOST_KEPT_BYTES)
            if part is not None:
                self._kept.stacks.put(
                    datum, (replace(part, frames=()), part.frames), n_bytes=part.frames.nbytes
                )
                return part
        return found


@dataclass(frozen=True, slots=True, eq=False)
class _Datum:
    """What a handler gives for a datum."""

    frames: Any
    """One frame; or several in order: an array, or what gives each as it is asked for."""
    count: int
    shape: tuple[int, ...]
    is_several: bool = True
    is_lazy: bool = False
    first: int = 0
    """Number of the first of `frames`."""
    kept: int = 0
    """How many of `frames` there are."""

    def has(self, position: int) -> bool:
        """Whether the frame is among `frames`, or there is none of that number."""
        return self.first <= position < self.first + self.kept or position >= self.count

    def frame(self, position: int) -> Any:
        """Return a frame."""
        return self.frames[position - self.first] if self.is_several else self.frames

    def from_on(self, position: int, most: int) -> _Datum | None:
        """Return a copy of frames from a position on, of `most` bytes at most; None where not two of them fit."""
        each = self.frames.nbytes // max(1, self.count)
        first = 0 if self.frames.nbytes <= most else position
        kept = min(self.count - first, most // max(1, each))
        if kept < min(2, self.count):
            return None
        return replace(self, frames=np.array(self.frames[first : first + kept]), first=first, kept=kept)


def _as_frames(found: Any, frame: HandledFrame) -> _Datum:
    if isinstance(found, list | tuple) and any(hasattr(part, "columns") for part in found):
        raise FrameError(f"the handler of {frame.spec} for {frame.path} gives tables, not images")
    if not isinstance(found, np.ndarray) and _gives_images(found):
        # A list, or what reads each as it is asked for: all of them at once may be gigabytes.
        first = np.shape(found[0])
        return _Datum(found, len(found), (len(found), *first), is_lazy=True, kept=len(found))
    is_lazy = hasattr(found, "compute") and hasattr(found, "reshape") and hasattr(found, "ndim")
    frames = found if is_lazy else np.asarray(found)
    if frames.ndim > 3 and not is_coloured(frames.shape):
        frames = frames.reshape(-1, *frames.shape[-2:])
    if frames.ndim <= 2:
        return _Datum(frames, 1, frames.shape, is_several=False, kept=1)
    return _Datum(frames, len(frames), frames.shape, is_lazy=is_lazy, kept=len(frames))


def _gives_images(found: Any) -> bool:
    """Whether it is a sequence whose members are images of one shape, as far as its first one tells."""
    if not (hasattr(found, "__len__") and hasattr(found, "__getitem__")) or hasattr(found, "reshape"):
        return False
    return len(found) > 0 and np.ndim(found[0]) == 2 and hasattr(found[0], "dtype")


def _refuse_wide_fields(kwargs: Mapping[str, Any]) -> None:
    """Refuse templates with fields wider than any path: they would be made before they are not found."""
    for name, value in kwargs.items():
        if not isinstance(value, str):
            continue
        widths = (int((old or new)[:20]) for old, new in _WIDTHS.findall(value))
        if any(width > WIDEST_FIELD for width in widths):
            raise FrameError(f"{name} has a field wider than {WIDEST_FIELD} characters: {printable(value)!r}")
