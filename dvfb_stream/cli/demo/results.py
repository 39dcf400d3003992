"""What the demo shows, read back from the catalog: the search's answer, a contact sheet, what to try next."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from tiled.queries import In

from dvfb_stream.annotator import Annotator
from dvfb_stream.catalog import find_runs, read_annotations
from dvfb_stream.catalog.place import find_place
from dvfb_stream.cli.output_files import figure_file
from dvfb_stream.cli.plot.contact_sheet import (
    DOUBTFUL,
    RIGHT,
    WRONG,
    SheetFrame,
    SheetRun,
    count_verdicts,
    draw_contact_sheet,
)
from dvfb_stream.cli.terminal import print_table
from dvfb_stream.errors import MissingExtraError, SettingsError
from dvfb_stream.frames import Geometry
from dvfb_stream.labels import TITLES
from dvfb_stream.profiles.scans import IMAGE_KEY, TRUTH_KEY, Scan
from dvfb_stream.profiles.simulated_detector import UNKNOWN
from dvfb_stream.view import ViewResampler

LABEL = "four_fold"
"""What the demo searches for."""
MOST_RUNS_SHOWN = 12
MOST_FRAMES_DRAWN = 60
FRAMES_READ = 8
"""Frames fetched from the catalog at a time: 32 MB of a detector with a million pixels."""


class Presentation:
    """The demo's face: what it prints and what it leaves in the output folder.

    Parameters
    ----------
    output
        Folder of contact sheet, log and example frame.
    model
        As the user named it.
    seed
        Of the simulated frames.
    files
        The user's own files; empty where the frames are simulated.
    options
        ``--option=value`` of the files' geometry.
    """

    def __init__(
        self, output: Path, *, model: str, seed: int, files: Sequence[str], options: Sequence[str]
    ) -> None:
        self._output = output
        self._model = [] if model == "default" else ["--model", model]
        self._seed = seed
        self._files = files
        self._options = list(options)
        self._console = Console(highlight=False, soft_wrap=True)
        self._example: list[str] = []
        """Arguments of ``dvfb annotate`` for one frame of the demo."""

    def begin(self, scans: Sequence[Scan], annotator: Annotator) -> None:
        """Say what is going to happen."""
        frames = sum(scan.frames for scan in scans)
        source = f"{len(self._files)} files" if self._files else "a simulated detector"
        samples = ", ".join(scan.sample for scan in scans)
        self._print(
            f"{frames} exposures of {source} ({samples}), annotated live by the model {annotator.identity}."
        )
        self._print(
            "A line a frame: what the coefficients leave unexplained (residual), how unlike the training frames it "
            "is (novelty), the order measured along the azimuth, and its accepted labels with their probabilities; "
            "doubtful ones have a question mark.\n"
        )

    def answer(self, catalog: Any) -> None:
        """Search the catalog and print the runs found, newest first."""
        found = find_runs(catalog, LABEL)
        annotated = find_place(catalog)
        total = 0 if annotated is None else len(annotated)
        self._print(f'\nWhich runs show {TITLES[LABEL]}?  find_runs(catalog, "{LABEL}")', style="bold")
        if annotated is None or not found:
            self._print(f"None of the {total} runs in the catalog.")
            return
        self._print(f"{len(found)} of the {total} runs in the catalog:")
        runs = [run.metadata for run in annotated.search(In("start.analysis.parent", found)).values()]
        runs.sort(key=lambda run: run["start"]["time"], reverse=True)
        rows = []
        for run in runs[:MOST_RUNS_SHOWN]:
            start, summary = run["start"], run["stop"]["summary"]
            uid = start["analysis"]["parent"]
            raw = start["analysis"]["raw"]
            cells = [uid[:8], raw.get("scan_id", ""), raw.get("sample_name", ""), summary["frames"]]
            cells += [summary[LABEL]["count"], f"{summary[LABEL]['max']:.2f}"]
            truths = _truths(catalog[uid])
            cells.append("unknown" if truths is None else sum(LABEL in truth for truth in truths))
            rows.append([str(cell) for cell in cells])
        columns = ("run", "scan", "sample", "frames", "4-fold", "highest probability", "really 4-fold")
        print_table(columns, rows, breakable=("sample",))
        if len(runs) > MOST_RUNS_SHOWN:
            self._print(f"and {len(runs) - MOST_RUNS_SHOWN} earlier ones")

    def draw(self, catalog: Any, uids: Sequence[str], geometry: Geometry) -> None:
        """Draw the contact sheet of these runs, and keep one frame of them for the suggestions.

        Raises
        ------
        SettingsError
            When a file cannot be written.
        """
        plan = ViewResampler(geometry)
        runs: list[SheetRun] = []
        best, example = -1.0, None
        left = MOST_FRAMES_DRAWN
        for uid in uids:
            rows = read_annotations(catalog, uid)
            truths = _truths(catalog[uid])
            frames = []
            for index, pixels in enumerate(_frames(catalog[uid], min(left, len(rows)))):
                row = rows[index]
                if example is None or row[LABEL] > best:
                    best, example = row[LABEL], pixels
                frames.append(_sheet_frame(plan, pixels, row, None if truths is None else truths[index]))
            left -= len(frames)
            if frames:
                runs.append(SheetRun(title=_title(catalog[uid], rows), frames=frames))
        path = self._output / "contact-sheet.png"
        try:
            figure_file(path, option="output").save(draw_contact_sheet(runs, title="Frames and their labels"))
            if example is not None:
                self._example = self._kept(example, geometry)
        except OSError as error:
            raise SettingsError(f"output {self._output} cannot be written to: {error.strerror}") from error
        self._print()
        if not self._files:
            counts = count_verdicts(runs)
            there = sum(len(frame.truth or ()) for run in runs for frame in run.frames)
            in_doubt = f" {counts[DOUBTFUL]} are doubtful." if counts[DOUBTFUL] else ""
            self._print(
                f"Of {there} labels that are really there, {counts[RIGHT]} were found; "
                f"{counts[WRONG]} were found that are not.{in_doubt}"
            )
        drawn = sum(len(run.frames) for run in runs)
        self._print(f"Contact sheet of {drawn} frames: {path}")

    def end(self) -> None:
        """Say what was stored where, and what to try next."""
        self._print(f"Catalog (Tiled): {self._output / 'catalog'}    log: {self._output / 'demo.log'}")
        self._print("\nTry next:", style="bold")
        dvfb, ipython = _program("dvfb"), _program("ipython")
        again = ["demo", "--seed", str(0 if self._files else self._seed + 1), *self._model]
        if str(self._output) != "demo-output":
            again += ["--output", str(self._output)]
        figure = str(self._output / "frame.png")
        for aim, arguments in (
            ("one frame in detail:", [dvfb, "annotate", *self._example, *self._model, "--plot", figure]),
            ("other samples, same catalog:", [dvfb, *again]),
        ):
            self._print(f"  {aim:<30}{shlex.join(arguments)}")
        self._print(f'  {"a beamline to type at:":<30}{ipython} --profile-dir "$({dvfb} profile)"')

    def _kept(self, pixels: NDArray[Any], geometry: Geometry) -> list[str]:
        if self._files:
            return [self._files[0], *self._options]
        try:
            from fabio.tifimage import TifImage
        except ImportError:
            raise MissingExtraError("fabio", "files") from None
        frame, mask = self._output / "frame.tif", self._output / "frame-mask.npy"
        TifImage(data=pixels).write(str(frame))
        arguments = [str(frame), f"--center-x={geometry.center_x:.2f}", f"--center-y={geometry.center_y:.2f}"]
        if geometry.mask is not None:
            np.save(mask, ~geometry.mask)  # in files, 1 means masked
            arguments.append(f"--mask={mask}")
        return arguments

    def _print(self, text: str = "", style: str | None = None) -> None:
        self._console.print(text, style=style, markup=False)


def _truths(run: Any) -> list[tuple[str, ...]] | None:
    """Labels that are really visible on each frame of a raw run of `run_scans`; None where nobody knows."""
    truths = [str(truth) for truth in run["primary"][TRUTH_KEY].read()]
    return None if UNKNOWN in truths else [tuple(filter(None, truth.split(","))) for truth in truths]


def _frames(run: Any, count: int) -> Iterator[NDArray[Any]]:
    images = run["primary"][IMAGE_KEY]
    for first in range(0, count, FRAMES_READ):
        yield from np.asarray(images[first : min(first + FRAMES_READ, count)])


def _sheet_frame(
    plan: ViewResampler, pixels: NDArray[Any], row: dict[str, Any], truth: tuple[str, ...] | None
) -> SheetFrame:
    if row["status"] == "ok":
        view = plan.view(pixels)
        image, mask = view.image, view.mask
    else:
        image, mask = np.zeros((plan.size, plan.size), np.float32), np.zeros((plan.size, plan.size), np.bool_)
    if truth is not None and row["status"] == "ok":  # what the model does not know it cannot miss
        truth = tuple(label for label in truth if not math.isnan(row[label]))
    return SheetFrame(
        index=row["frame"],
        image=image,
        mask=mask,
        labels=tuple(filter(None, row["labels"].split(","))),
        doubtful=tuple(filter(None, row["doubtful"].split(","))),
        truth=truth,
        failure=row["reason"],
    )


def _title(run: Any, rows: Sequence[dict[str, Any]]) -> str:
    start = run.metadata["start"]
    found = sum(LABEL in row["labels"].split(",") for row in rows)
    name = f"scan {start['scan_id']} · {start['sample_name']}"
    return f"{name} · {TITLES[LABEL]} found on {found} of {len(rows)} frames"


def _program(name: str) -> str:
    """Return a program of this Python's environment, as it can be called from here."""
    here = Path(sys.executable).absolute().with_name(name)
    on_path = shutil.which(name)
    if not here.exists() or (on_path is not None and Path(on_path).absolute() == here):
        return name
    relative = os.path.relpath(here)
    return shlex.quote(str(here) if relative.startswith("..") else relative)
