"""Frames that a document speaks of: their pixels, where these lie, or the reason why they cannot be had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from dvfb_stream.callbacks.file_sequences import PixelReferences
from dvfb_stream.frames import Geometry, Origin


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameSequence:
    """Consecutive frames of one data key, whose pixels lie in the document or in files."""

    origin: Origin
    """Of the first."""
    count: int
    time: float
    """When the raw document says that they were taken, seconds since 1970."""
    descriptor: str = ""
    """uid of their descriptor; empty where no document announced them."""
    seq_num: int = 0
    """Of the first one's raw event; 0: not known."""
    frames_each: int | None = None
    """Frames of each event; None: all are of one."""
    geometry: Geometry | None = None
    images: Sequence[NDArray[Any]] | None = None
    """Perhaps the detector's own buffer: to be copied by whoever keeps them."""
    references: PixelReferences | None = None
    """Where the pixels lie in files."""
    reason: str = ""
    """Why there are neither, or no geometry; the frames are not to be annotated."""

    def origin_of(self, position: int) -> Origin:
        """Return where the frame at a position, from 0, is stored."""
        first = self.origin
        if not position:
            return first
        return Origin(
            run_uid=first.run_uid,
            stream=first.stream,
            data_key=first.data_key,
            index=first.index + position,
            event_uid=first.event_uid,
        )

    def seq_num_of(self, position: int) -> int:
        """Return the number of the raw event of the frame at a position; 0 where it is not known."""
        if not self.seq_num or self.frames_each is None:
            return self.seq_num
        return self.seq_num + position // self.frames_each
