"""From frames to files: each frame is estimated and drawn, and told of."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from dvfb_stream.cli.frame_files import Failures, FramePlace, FrameRead, read_all
from dvfb_stream.cli.output_files import figure_file, figures_folder
from dvfb_stream.cli.plot.estimate import Estimate, Estimator
from dvfb_stream.cli.plot.estimate_figure import Coefficients, draw_estimate
from dvfb_stream.cli.terminal import FailureReporter, ProgressBar, say
from dvfb_stream.errors import FrameError, GeometryError
from dvfb_stream.files import Detector
from dvfb_stream.files.reading import DATASET_SEPARATOR
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


class EstimateFiles:
    """Names figures after their frames, in one folder; no two frames of one call share a name.

    Parameters
    ----------
    folder
        Made where it does not exist.
    inputs
        Files that are read.

    Raises
    ------
    SettingsError
        When the folder cannot be made or written to.
    """

    def __init__(self, folder: Path, inputs: Sequence[str | Path]) -> None:
        self._folder = figures_folder(folder, option="output-dir")
        self._inputs = inputs
        self._written: set[Path] = set()

    def path(self, place: FramePlace) -> Path:
        """Return the name of a frame's figure, which no other frame gets from here on."""
        stem = Path(place.file.partition(DATASET_SEPARATOR)[0]).stem
        name = f"{stem}-frame-{place.index}" if place.count > 1 else stem
        # run1/a.tif and run2/a.tif, or two datasets of one HDF5 file.
        paths = [self._folder / f"{name}-estimate.png"]
        while paths[-1] in self._written:
            paths.append(self._folder / f"{name}-estimate-{len(paths) + 1}.png")
        self._written.add(paths[-1])
        return paths[-1]

    def save(self, figure: Any, place: FramePlace) -> Path:
        """Save a frame's figure and return where.

        Raises
        ------
        SettingsError
            When it cannot be written, or would replace a file that is read.
        """
        return figure_file(self.path(place), self._inputs, option="--output-dir: the figure").save(figure)


def draw_estimates(
    source: FrameSource, estimator: Estimator, files: EstimateFiles, coefficients: Coefficients, *, json: bool
) -> bool:
    """Draw each frame of `source` and write a line about it to stdout; return whether anything failed."""
    with ProgressBar(source.files, "drawing") as progress:
        reporter = FailureReporter(progress)
        failures = Failures(reporter)
        for read in source.read(reporter):
            line: str | None
            try:
                line = _draw(read, estimator, files, coefficients, json=json)
                failures.see(read, None)
            except (FrameError, GeometryError) as error:
                failures.see(read, str(error))
                failed = {"file": read.file, "frame": read.index, "status": "failed", "reason": str(error)}
                line = json_format.dumps(failed) if json else None
            if line is not None:
                with progress.out_of_the_way():
                    say(line)
            progress.advance()
        failures.tell()
    return reporter.failures > 0


def _draw(
    read: FrameRead, estimator: Estimator, files: EstimateFiles, coefficients: Coefficients, *, json: bool
) -> str:
    if read.frame is None:
        raise FrameError(read.reason)
    estimate = estimator.estimate(read.frame)
    title = f"{read.file} frame {read.index}" if read.count > 1 else read.file
    figure = draw_estimate(estimate, estimator.settings, title=title, coefficients=coefficients)
    path = files.save(figure, read)
    if not json:
        return f"wrote {path}: fit residual {estimate.residual:.3f}"
    facts = {
        "file": read.file,
        "frame": read.index,
        "status": "ok",
        "reason": "",
        "figure": str(path),
        **_numbers(estimate),
        "center_x": read.frame.geometry.center_x,
        "center_y": read.frame.geometry.center_y,
        "fbt": estimator.settings.as_dict(),
    }
    return json_format.dumps(facts, allow_nan=False)


def _numbers(estimate: Estimate) -> dict[str, float]:
    return {
        "fit_residual": estimate.residual,
        "fitted": float(estimate.fitted.mean()),
        "masked": float((~estimate.view.mask).mean()),
        "unknowns": estimate.unknowns,
        "nonzero": estimate.nonzero,
        "iterations": estimate.iterations,
        "gap": estimate.gap,
    }
