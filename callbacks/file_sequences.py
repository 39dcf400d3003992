"""Where the pixels of many frames lie, without an object for each: a document may announce 100,000."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dvfb_stream.errors import FrameError
from dvfb_stream.files.references import FrameReference


class PixelReferences(Protocol):
    """The references of consecutive frames, made one by one as they are read."""

    @property
    def source(self) -> str:
        """What they are read from: frames of one source are read in order, and one that is late holds up the rest."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> FrameReference:
        """Return where a frame lies.

        Raises
        ------
        NotThereYetError
            When the documents that say so have not come.
        FrameError
            When they say something that cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class NoFrames:
    """Frames none of which can be read, for one reason."""

    source: str
    reason: str
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int) -> FrameReference:
        raise FrameError(self.reason)
