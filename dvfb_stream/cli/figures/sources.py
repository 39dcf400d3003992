"""Where the frames of figures come from: detector files, or the simulator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from dvfb_stream.cli.frame_files import FrameRead, read_all
from dvfb_stream.cli.terminal import FailureReporter
from dvfb_stream.errors import FrameError
from dvfb_stream.files import Detector
from dvfb_stream.frames import Frame
from dvfb_stream.simulation import Simulator


class FrameSource(Protocol):
    """Frames to draw."""

    files: int
    """How many files they come from."""

    def read(self, reporter: FailureReporter) -> Iterator[FrameRead]:
        """Yield the frames one at a time; tell `reporter` how many there are and what cannot be read."""
        ...


class RecordedFrames:
    """Frames of detector files: those asked for, or the first of each file.

    Parameters
    ----------
    files
        As `dvfb_stream.files.open_frames` takes them.
    detector
        Geometry of all frames.
    wanted
        Indices to read of each file; None: all, up to `most`.
    most
        Frames of each file at most, where `wanted` is None.
    """

    def __init__(
        self, files: Sequence[str], detector: Detector, wanted: Sequence[int] | None, most: int
    ) -> None:
        self.files = len(files)
        self._specs = files
        self._detector = detector
        self._wanted = None if wanted is None else list(dict.fromkeys(wanted))
        self._most = most

    def read(self, reporter: FailureReporter) -> Iterator[FrameRead]:
        """Yield the frames in the order of the files."""

        def choose(file: str, count: int) -> Sequence[int]:
            if self._wanted is None:
                if count > self._most:
                    reporter.noted(
                        f"{file} has {count} frames; the first {self._most} are drawn (choose by --frame or "
                        "--max-frames)"
                    )
                return range(min(count, self._most))
            beyond = [index for index in self._wanted if index >= count]
            if beyond:
                has = f"{count} frames, the last is {count - 1}" if count > 1 else "one frame, number 0"
                raise FrameError(f"{file} has no frame {beyond[0]}: it holds {has}; choose by --frame")
            return self._wanted

        return read_all(self._specs, self._detector, reporter, choose)


class SimulatedFrames:
    """Frames of the simulated beamline.

    Parameters
    ----------
    seed
        Of the simulation.
    wanted
        Which of its frames.
    """

    files = 1

    def __init__(self, seed: int, wanted: Sequence[int]) -> None:
        self._seed = seed
        self._wanted = list(dict.fromkeys(wanted))

    def read(self, reporter: FailureReporter) -> Iterator[FrameRead]:
        """Yield the frames in the order asked for."""
        simulator = Simulator(self._seed)
        reporter.opened(len(self._wanted))
        for index in self._wanted:
            simulated = simulator.frame(index)
            yield FrameRead(
                position=0,
                file=f"simulated-seed-{self._seed}",
                index=index,
                count=simulator.settings.frames_per_experiment,
                frame=Frame(simulated.pixels, simulated.geometry),
            )
