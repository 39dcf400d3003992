"""``dvfb annotate``: labels, probabilities and figures for detector files."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from dvfb_stream.cli.options import (
    CenterX,
    CenterY,
    CountsPerUnit,
    Delta,
    DetectorName,
    Device,
    Dummies,
    IgnoreFileMask,
    Masks,
    Model,
    Poni,
    Thresholds,
    detector_description,
    files_read,
    flag,
    option,
)
from dvfb_stream.cli.terminal import (
    FailureReporter,
    ProgressBar,
    WrongCallError,
    quiet_libraries,
    report_note,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from dvfb_stream.annotator import Annotator
    from dvfb_stream.cli.annotate.frames import AnnotatedFrame
    from dvfb_stream.cli.output_files import OutputFile
    from dvfb_stream.files import DetectorDescription

OUTPUT = "Output"
FORMS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".txt": "table"}
"""What is written to a file, by the end of its name."""


def annotate(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILES",
            help="Detector images: tif, cbf, edf, npy, grey png and all else that fabio reads, multi-frame files "
            "included; HDF5 files, whose frames are found by NeXus's attributes, a DECTRIS master's links, or as the "
            "only images there. file.h5::/path names a dataset or group, 'file.h5::/path[:,0]' selects: of several "
            "thresholds, the first.",
        ),
    ],
    *,
    center_x: CenterX = None,
    center_y: CenterY = None,
    poni: Poni = None,
    mask: Masks = None,
    dummy: Dummies = None,
    delta: Delta = 0.0,
    counts_per_unit: CountsPerUnit = None,
    ignore_file_mask: IgnoreFileMask = False,
    detector: DetectorName = None,
    json: Annotated[bool, flag("One JSON object a line and frame, instead of tables.", panel=OUTPUT)] = False,
    csv: Annotated[bool, flag("A header and one line a frame.", panel=OUTPUT)] = False,
    output: Annotated[
        Path | None,
        option(
            "FILE",
            "Write the rows there instead of to stdout; a name in .json, .jsonl, .csv or .txt (tables) chooses the "
            "form. What was there is replaced when all rows are written.",
            panel=OUTPUT,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        option(
            "FILE.png",
            "Draw the frame with its mask and beam centre, its reconstruction from the coefficients, the "
            "coefficients, the orders measured along the azimuth and the probabilities; with several frames to "
            "FILE-0.png, FILE-1.png, ... in the order of the rows.",
            panel=OUTPUT,
        ),
    ] = None,
    model: Model = "default",
    thresholds: Thresholds = "best_f1",
    device: Device = "auto",
    batch_size: Annotated[
        int, option("N", "Frames read and annotated at a time; bounds memory.", min=1, max=4096)
    ] = 16,
) -> None:
    """Say which physical characteristics each frame of detector files shows, and how far to trust it.

    The beam centre is the one given, by --center-x and --center-y or by --poni; else the one that a file's own
    header declares, which is told on stderr. It is never guessed. Masks and detector hold for all files. A file that
    cannot be read costs one line on stderr, a frame that cannot be annotated (no valid pixel, another shape, no beam
    centre) has status "failed" and its reason; the others are annotated, and the exit status is 1.

    Fit residual: share of the image that the Fourier-Bessel coefficients leave unexplained, 0 to 1. Novelty:
    share of the simulated frames that look more familiar to the model than this one; near 1, do not trust it. A label
    with a question mark is doubtful: neither accepted nor rejected. The order is measured along the azimuth, without
    the network; behind it stands its contrast.

    dvfb annotate run7_*.tif --center-x 302.7 --center-y 530.9

    dvfb annotate run7_*.cbf --detector Pilatus2M

    dvfb annotate scan.h5::/entry/data/data --poni agbh.poni --mask beamstop.edf --json > rows.jsonl

    dvfb annotate night/*.tif --poni agbh.poni --thresholds high_precision --csv > sure.csv

    dvfb annotate frame.cbf --center-x 795 --center-y 1303 --detector Pilatus2M --plot frame.png
    """
    description = detector_description(
        center_x,
        center_y,
        poni,
        mask or [],
        detector,
        from_file=True,
        dummies=dummy,
        delta=delta,
        ignore_file_mask=ignore_file_mask,
        counts_per_unit=counts_per_unit,
    )
    form = _form(json=json, csv=csv, output=output)
    with quiet_libraries():
        failed = _annotate(files, description, form, output, plot, model, device, thresholds, batch_size)
    if failed:
        raise typer.Exit(1)


def _form(*, json: bool, csv: bool, output: Path | None) -> str:
    if json and csv:
        raise WrongCallError("give one of --json and --csv")
    asked = "json" if json else "csv" if csv else None
    named = None if output is None else FORMS.get(output.suffix.lower())
    if asked is not None and named is not None and asked != named:
        raise WrongCallError(f"--output {output} names another form than --{asked}; leave --{asked} away")
    return asked or named or "table"


def _annotate(
    files: list[str],
    description: DetectorDescription,
    form: str,
    output: Path | None,
    plot: Path | None,
    model: str,
    device: str,
    thresholds: str,
    batch_size: int,
) -> bool:
    """Do the work; whether anything failed."""
    from dvfb_stream.cli.annotate.frames import annotate_files
    from dvfb_stream.cli.annotate.row_forms import row_writer
    from dvfb_stream.cli.output_files import OutputFile, figure_file

    inputs = files_read(files, description)
    figures = None if plot is None else figure_file(plot, inputs, option="--plot")
    rows: AbstractContextManager[IO[str]] = nullcontext(sys.stdout)
    if output is not None:
        rows = OutputFile(output, inputs, option="--output", suffixes=tuple(FORMS)).opened()
    loaded = description.load()
    with ProgressBar(len(files), "annotating") as progress:
        # Late: it takes seconds, and all that a user may have got wrong is known by now.
        from dvfb_stream.annotator import Annotator

        annotator = Annotator.load(model, device=device, thresholds=thresholds)
        reporter = FailureReporter(progress)
        with rows as stream:
            writer = row_writer(form, stream)
            for row in annotate_files(annotator, files, loaded, batch_size=batch_size, events=reporter):
                with progress.out_of_the_way() if stream.isatty() else nullcontext():
                    writer.write(row)
                if figures is not None and row.annotation.ok:
                    numbered = len(files) > 1 or row.count > 1
                    with progress.out_of_the_way():
                        _plot(annotator, row, figures, row.number if numbered else None)
                progress.advance()
            writer.finish()
    return reporter.failures > 0


def _plot(annotator: Annotator, row: AnnotatedFrame, figures: OutputFile, number: int | None) -> None:
    from dvfb_stream.cli.annotate.frame_figure import FramePicture, draw_frame
    from dvfb_stream.cli.annotate.row_forms import trust
    from dvfb_stream.cli.plot.azimuth import measure_azimuth
    from dvfb_stream.examination import examine

    assert row.frame is not None
    seen = examine(annotator, row.frame)
    annotation = row.annotation
    orders = annotator.provenance()["fbt"]["orders"]
    picture = FramePicture(
        title=row.file if row.count == 1 else f"{row.file} frame {row.index}",
        view=seen.view,
        reconstruction=seen.reconstruction,
        coefficients=seen.coefficients,
        azimuth=measure_azimuth(seen.view, row.frame.geometry),
        measured_order=annotation.measured_order,
        measured_contrast=annotation.measured_contrast,
        orders=orders,
        scores=annotation.scores,
        thresholds=annotator.thresholds,
        labels=annotation.labels,
        doubtful=annotation.doubtful,
        remark=trust(annotation),
    )
    report_note(f"wrote {figures.save(draw_frame(picture), number)}")
