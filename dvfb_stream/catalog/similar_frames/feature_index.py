"""Keeps the features of one model's frames on this machine, such that the nearest of a million are found at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.catalog.similar_frames.index_files import Contents, DamagedError, IndexFiles, Part, Points
from dvfb_stream.catalog.similar_frames.nearest import Outlines, nearest

logger = logging.getLogger(__name__)

_FITTED_TO = 20_000
"""Points that axes are fitted to: 80 for each of 256 numbers."""
_GROWTH = 8
"""Axes that were fitted to fewer are fitted again when there are so many times the points: each is written anew less
than 1.2 times on average."""
_DEAD_SHARE = 0.5
"""Of the points, from which on those that do not count any more are left out of new files."""


@dataclass(frozen=True, slots=True, eq=False)
class RunFeatures:
    """Features of frames of one analysis run."""

    part: Part
    """Whose they are; where they lie is not known yet."""
    frames: NDArray[np.int64]
    """(N,)."""
    features: NDArray[np.floating]
    """(N, F) none of them NaN."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A frame in the index."""

    part: Part
    """Whose it is."""
    frame: int
    cosine: float
    """Of the angle between its features and those asked for: 1 where they are the same but for a factor."""


class FeatureIndex:
    """The index of one model's features in one folder.

    A point is the features divided by their length, in half precision. What is damaged, or of another version, is
    forgotten: the index is empty then.

    Parameters
    ----------
    folder
        Made where it is not there.
    width
        Features of a frame.

    Raises
    ------
    OSError
        When it cannot be made.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self._folder = folder
        self._files = IndexFiles(folder, width)
        self._opened: Points | None = None

    def __len__(self) -> int:
        return self._open().contents.points

    def parts(self) -> tuple[Part, ...]:
        """Return what the index holds.

        Raises
        ------
        OSError
            When it cannot be read.
        """
        return self._open().contents.parts

    def frames(self, part: Part) -> NDArray[np.int64]:
        """Return the frames of a part of `parts`; raises as that."""
        return self._open().frames[part.where]

    def writing(self) -> AbstractContextManager[None]:
        """Wait until no other process writes, and keep others from it; a lock that ends with the process."""
        return self._files.writing()

    def put(self, runs: Iterable[RunFeatures], *, in_place_of: Collection[str] = ()) -> None:
        """Add frames; to be called within `writing`.

        They count when this returns, all of them, or none if the process ends before.

        Parameters
        ----------
        runs
            Whose frames are added.
        in_place_of
            Uids of analysis runs whose frames do not count any more, but for those that are added.

        Raises
        ------
        OSError
            When the files cannot be written.
        """
        before = self._open().contents
        dropped = set(in_place_of)
        contents = replace(
            before, parts=tuple(part for part in before.parts if part.analysis_uid not in dropped)
        )
        for run in runs:
            contents = self._added(contents, run)
        if contents != before:
            contents = self._files.commit(contents)
            if _wants_new_files(contents):
                self._files.commit(self._written_anew(self._open()))

    def nearest(
        self,
        features: NDArray[np.floating],
        n: int,
        *,
        without: Callable[[Part], bool] = lambda part: False,
        without_frame: tuple[str, int] | None = None,
    ) -> list[Neighbour]:
        """Return the frames with the most similar features, the most similar first.

        It is an exact search: no frame is nearer than those returned.

        Parameters
        ----------
        features
            (F,).
        n
            How many; all there are where these are fewer.
        without
            Whose frames are left out.
        without_frame
            Uid of an analysis run and frame, which is left out, too.

        Raises
        ------
        OSError
            When the files cannot be read.
        """
        index = self._open()
        parts = index.contents.parts
        excluded = [*_gaps(parts, index.contents.length), *(part.where for part in parts if without(part))]
        for part in parts:
            if without_frame is not None and part.analysis_uid == without_frame[0]:
                at = part.first + np.flatnonzero(index.frames[part.where] == without_frame[1])
                excluded += [slice(k, k + 1) for k in at.tolist()]
        query = _points(np.asarray(features)[None])[0]
        found, distances = nearest(
            index.points, index.outlines, index.to_outlines, query, n, excluded=excluded
        )
        firsts = np.array([part.first for part in parts], np.int64)
        whose = np.searchsorted(firsts, found, side="right") - 1
        return [
            Neighbour(parts[part], int(index.frames[point]), float(1.0 - distance**2 / 2.0))
            for part, point, distance in zip(whose.tolist(), found.tolist(), distances.tolist(), strict=True)
        ]

    def _added(self, contents: Contents, run: RunFeatures) -> Contents:
        points = _points(run.features)
        if not contents.generation and len(points):
            parts = contents.parts
            contents = replace(self._files.begin(Outlines.fitted(points), len(points)), parts=parts)
        if not contents.generation:
            return replace(contents, parts=(*contents.parts, run.part))
        return self._files.add(contents, self._files.outlines_of(contents), run.part, run.frames, points)

    def _written_anew(self, old: Points) -> Contents:
        """Write files without the points that do not count, and with axes that suit those that do."""
        alive = np.concatenate(
            [np.arange(part.first, part.first + part.points) for part in old.contents.parts]
        )
        some = np.random.default_rng(0).permutation(alive)[:_FITTED_TO]
        to_outlines = Outlines.fitted(old.points[np.sort(some)])
        contents = self._files.begin(to_outlines, len(some))
        for part in old.contents.parts:
            contents = self._files.add(
                contents, to_outlines, part, old.frames[part.where], old.points[part.where]
            )
        return contents

    def _open(self) -> Points:
        listed = self._files.listed()
        try:
            self._opened = self._files.open(self._opened)
        except DamagedError as error:
            logger.warning(
                "the index of features in %s is damaged (%s), and is made anew", self._folder, error
            )
            self._files.forget(listed)
            self._opened = self._files.open()
        return self._opened


def _points(features: NDArray[np.floating]) -> NDArray[np.float16]:
    """Return features divided by their length; those of length 0 stay."""
    lengths = np.sqrt(np.einsum("nf,nf->n", features, features, dtype=np.float64))[:, None]
    points: NDArray[np.float16] = (features / np.where(lengths > 0, lengths, 1.0)).astype(np.float16)
    return points


def _wants_new_files(contents: Contents) -> bool:
    points = contents.points
    is_outgrown = contents.fitted_to < _FITTED_TO and points >= _GROWTH * contents.fitted_to
    return points > 0 and (is_outgrown or points < _DEAD_SHARE * contents.length)


def _gaps(parts: Sequence[Part], length: int) -> Iterator[slice]:
    """Give the points that belong to no part; parts come in the order of their points."""
    end = 0
    for part in parts:
        if part.first > end:
            yield slice(end, part.first)
        end = part.first + part.points
    if length > end:
        yield slice(end, length)
