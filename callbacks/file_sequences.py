"""Where the pixels of many frames lie, without an object for each: a document may announce 100,000."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dvfb_stream.callbacks.assets.references import NoFrame, PixelReference


class PixelReferences(Protocol):
    """The references of consecutive frames, made one by one as they are read."""

    @property
    def source(self) -> str:
        """What they are read from: frames of one source are read in order, and one that is late holds up the rest."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> PixelReference: ...


@dataclass(frozen=True, slots=True)
class NoFrames:
    """Frames none of which can be read, for one reason."""

    source: str
    reason: str
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int) -> PixelReference:
        return NoFrame(self.source, self.reason)
