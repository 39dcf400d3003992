"""What opens files and reads frames from them, wherever it does so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from dvfb_stream.files.expected import Expected


class Files(Protocol):
    """What opens files and reads frames from them; `FrameFiles` does, in this process.

    Called by one thread at a time, but for `open_files`. Each frame is read for a raw run, whose uid is given: what
    is open for one run alone is closed by `release`, and a file that another run speaks of is opened anew.

    All that read raise `NotThereYetError` where the frame may be there later, and `FrameError` where it never will:
    when it is not what is expected, which is found out before it is read where that can be.
    """

    @property
    def open_files(self) -> int:
        """Files open now; never waits for a read."""
        ...

    def hdf5(self, path: str, dataset: str, number: int, expected: Expected, run: str) -> NDArray[Any]:
        """Return frame `number`, from 0, of a dataset (rows, columns), (N, rows, columns), (N, n, rows, columns)."""
        ...

    def image(self, path: str, page: int, expected: Expected, run: str) -> NDArray[Any]:
        """Return frame `page`, from 0, of an image file: TIFF, NPY, CBF, EDF."""
        ...

    def handled(
        self,
        spec: str,
        path: str,
        resource: Mapping[str, Any],
        datum: Mapping[str, Any],
        position: int,
        expected: Expected,
        run: str,
    ) -> NDArray[Any]:
        """Return frame `position`, from 0, of a datum, by the handler registered for `spec`.

        The handler is made of the path and the resource's kwargs, and called with the datum's.
        """
        ...

    def release(self, run: str) -> None:
        """Close what is open for a run: it has ended."""
        ...

    def close(self) -> None:
        """Close all files; nothing is read any more."""
        ...
