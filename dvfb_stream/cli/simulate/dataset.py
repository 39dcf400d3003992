"""A dataset of simulated frames in one HDF5 file, written in parts so that nothing done is ever lost."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dvfb_stream.cli.output_files import check_writable
from dvfb_stream.cli.simulate.layout import (
    JoinedFile,
    PartFacts,
    empty_file,
    existing_identity,
    largest_size,
    new_part,
    open_for_joining,
    part_facts,
)
from dvfb_stream.cli.simulate.parts import PartsFolder, Span
from dvfb_stream.errors import SettingsError
from dvfb_stream.simulation import SimulatedBatch, Simulator
from dvfb_stream.simulation.identity import FORMAT, as_text, difference, identity_of
from dvfb_stream.simulation.settings import DETECTOR

MOST_FRAMES_PER_PART = 256
"""What an interruption costs at most: a few seconds of views."""
MOST_BYTES_PER_PART = 128 * 2**20
"""Of pixels before they are compressed: a part is made in memory. Seven frames of the largest known detector, and as
many seconds."""
PIXEL_BYTES = 4

Report = Callable[[int], None]
"""Called with the frames done since the last time."""


class DatasetWriter:
    """Makes a dataset of the first `count` frames of a simulator.

    Frames are kept in parts in ``PATH.parts``, and parts are put together when all are there. Each file appears
    under its name when it is complete, so that whoever is killed at any moment and started again goes on with the
    parts that are there and ends with the same bytes.

    Parameters
    ----------
    path
        Where the dataset goes.
    simulator
        Makes the frames.
    count
        Frames, at least 1.

    Raises
    ------
    SettingsError
        When there is something else under the name already, frames are of several shapes, or nothing can be written
        there.
    """

    def __init__(self, path: Path, simulator: Simulator, count: int) -> None:
        if path.is_dir():
            raise SettingsError(f"output {path} is a directory; give the name of a file")
        self.path = path
        self._parts = PartsFolder(path)
        self._simulator = simulator
        self._count = count
        self._identity = as_text(identity_of(simulator))
        self._shape = _one_shape(simulator)
        frame_bytes = PIXEL_BYTES * math.prod(self._shape)
        self._frames_per_part = max(1, min(MOST_FRAMES_PER_PART, MOST_BYTES_PER_PART // frame_bytes))
        if not self._is_complete():
            check_writable(path.parent, f"output {path}")

    def write(self, report: Report) -> int:
        """Make what is missing, and return how many frames were there already: all, if the dataset was complete.

        Raises
        ------
        SettingsError
            When another process is at it, parts are of another dataset, or the disk is full; what is done stays.
        """
        if self._is_complete() and not self._parts.path.exists():
            return self._count
        with self._saying_what_is_kept(), self._parts.locked():
            # Somebody may have finished it since this object was made.
            if not self._is_complete():
                facts = self._whole_parts()
                kept = sum(stop - first for first, stop in facts)
                report(kept)
                for first, stop in self._spans():
                    if (first, stop) not in facts:
                        facts[first, stop] = self._make(first, stop, report)
                self._join(facts)
            else:
                kept = self._count
            self._parts.discard()
        return kept

    def _is_complete(self) -> bool:
        """Return whether this very dataset is there.

        Raises
        ------
        SettingsError
            When something else is.
        """
        if not self.path.exists():
            return False
        found = existing_identity(self.path)
        if found is None:
            raise SettingsError(
                f"{self.path} exists and is no dataset of simulated frames; give another name"
            )
        identity, count = found
        if (identity, count) == (self._identity, self._count):
            return True
        reason = (
            difference(identity, self._identity)
            if identity != self._identity
            else f"it has {count} frames instead of {self._count}"
        )
        raise SettingsError(
            f"{self.path} exists and is another dataset ({reason}); give another name or delete it"
        )

    def _spans(self) -> Iterator[Span]:
        for first in range(0, self._count, self._frames_per_part):
            yield first, min(first + self._frames_per_part, self._count)

    def _whole_parts(self) -> dict[Span, PartFacts]:
        """Return the parts that need not be made again."""
        wanted = set(self._spans())
        facts = {}
        for span in self._parts.spans():
            content = self._parts.content(span)
            if content is None:
                continue
            found = part_facts(content)
            if found.identity != self._identity:
                raise SettingsError(
                    f"{self._parts.path} holds parts of another dataset "
                    f"({difference(found.identity, self._identity)}); finish that one as it was begun, or delete "
                    "the folder"
                )
            if span in wanted:
                facts[span] = found
        return facts

    def _make(self, first: int, stop: int, report: Report) -> PartFacts:
        content = new_part(self._reported(first, stop, report), first, stop, identity=self._identity)
        self._parts.keep((first, stop), content)
        return part_facts(content)

    def _reported(self, first: int, stop: int, report: Report) -> Iterator[SimulatedBatch]:
        for batch in self._simulator.batches(first, stop):
            yield batch
            report(len(batch))

    def _join(self, facts: dict[Span, PartFacts]) -> None:
        settings = self._simulator.settings
        every = list(facts.values())
        with (
            self._parts.joined(empty_file(), largest_size(every, self._count)) as path,
            open_for_joining(path) as file,
        ):
            joined = JoinedFile(
                file,
                every,
                frames=self._count,
                experiments=-(-self._count // settings.frames_per_experiment),
                shape=self._shape,
            )
            for first, stop in self._spans():
                content = self._parts.content((first, stop))
                if content is None:
                    raise SettingsError(
                        f"frames {first} to {stop - 1} in {self._parts.path} were damaged just now; "
                        "call again in the same words"
                    )
                joined.add(content, first, stop)
            joined.describe(
                format=FORMAT,
                identity=self._identity,
                count=self._count,
                seed=str(self._simulator.seed),  # as text: seeds may exceed 64 bits
                settings=json.dumps(settings.as_dict(), sort_keys=True),
            )

    @contextmanager
    def _saying_what_is_kept(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._parts.make_room()
            raise SettingsError(
                f"{self.path} cannot be written: {error.strerror or error}; what is done is kept in "
                f"{self._parts.path}: mend that and call again in the same words"
            ) from error


def _one_shape(simulator: Simulator) -> tuple[int, int]:
    """Return the shape of all frames.

    Raises
    ------
    SettingsError
        When there are several, which cannot be in one dataset: told before hours of work.
    """
    settings = simulator.settings
    if settings.raster != DETECTOR:
        return settings.size, settings.size
    shapes: list[tuple[int, int]] = []
    for model, weight in settings.detector_models():
        rows, columns = model.shape
        if weight > 0 and settings.sideways < 1:
            shapes.append((rows, columns))
        if weight > 0 and settings.sideways > 0:
            shapes.append((columns, rows))
    for shape in shapes:
        if shape != shapes[0]:
            raise SettingsError(
                f"some frames have {shapes[0][0]} x {shapes[0][1]} pixels and others {shape[0]} x {shape[1]}; those "
                "of one dataset are of one shape: choose one detector (and sideways = 0) in the settings, or "
                'raster = "view"'
            )
    return shapes[0]
