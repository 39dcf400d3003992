"""``dvfb annotate``: labels, probabilities and figures for detector files."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from dvfb_stream.cli.annotate.history import History, annotate_history
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
HISTORY = "Runs of a catalog, instead of files"
TIMES: dict[str, Any] = {
    "formats": ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"],
    "panel": HISTORY,
}
FORMS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".txt": "table"}
"""What is written to a file, by the end of its name."""


def annotate(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILES",
            help="Detector images: tif, cbf, edf, npy, grey png and all else that fabio reads, multi-frame files "
            "included; HDF5 files, whose frames are found by NeXus's attributes, a DECTRIS master's links, or as the "
            "only images there. file.h5::/path names a dataset or group, 'file.h5::/path[:,0]' selects: of several "
            "thresholds, the first. None with --tiled.",
        ),
    ] = None,
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
    tiled: Annotated[
        str | None,
        option(
            "URI",
            "Annotate the raw runs of this container of a Tiled server, or of a folder that the demo or the profile "
            "has filled, into the analysis runs beside them. The key is taken from TILED_API_KEY.",
            panel=HISTORY,
        ),
    ] = None,
    uid: Annotated[
        list[str] | None,
        option("UID", "This raw run, by its uid or the beginning of it; again for more.", panel=HISTORY),
    ] = None,
    since: Annotated[
        datetime | None, option("TIME", "Runs begun then or later: 2026-11-30 or 2026-11-30T16:20.", **TIMES)
    ] = None,
    until: Annotated[datetime | None, option("TIME", "Runs begun before.", **TIMES)] = None,
    where: Annotated[
        str | None,
        option(
            "CONDITION",
            "Runs whose start says so: \"sample_name == 'lamella' and scan_id >= 100\"; ==, !=, <, <=, >, >=, in, "
            "joined by 'and'.",
            panel=HISTORY,
        ),
    ] = None,
    data_key: Annotated[
        list[str] | None,
        option("KEY", "Data key of the detector that the geometry options describe.", panel=HISTORY),
    ] = None,
    beamline: Annotated[
        Path | None,
        option(
            "FILE.toml",
            "Detectors by data key, folders mounted elsewhere and model, as `dvfb profile` has them; without "
            "--data-key, the file that DVFB_BEAMLINE names.",
            panel=HISTORY,
        ),
    ] = None,
    allowed_root: Annotated[
        list[str] | None,
        option(
            "FOLDER",
            "Files below this folder may be opened that stored runs name; again for more, besides allowed_roots in "
            "[files] of the beamline's file. Images in others are read from Tiled.",
            panel=HISTORY,
        ),
    ] = None,
    only: Annotated[
        str | None,
        option(
            "STATUS,...",
            "Of runs that are annotated: annotate again, and replace rows of these statuses (failed, dropped) where "
            "the new row says more.",
            panel=HISTORY,
        ),
    ] = None,
    again: Annotated[
        bool,
        flag(
            "Of runs that are annotated: annotate all frames again. With the same geometry rows are replaced, and "
            "arrays added; with another, an analysis is made beside the old one, and is the newest.",
            panel=HISTORY,
        ),
    ] = False,
    arrays: Annotated[
        str | None,
        option(
            "NAME,...",
            "Keep arrays of each frame besides its row: coefficients (Fourier-Bessel), features (of the "
            "network). Without, what the beamline's file says.",
            panel=HISTORY,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        option(
            "N",
            "Processes, each of which annotates one run at a time.  [default: 2]",
            min=1,
            max=256,
            panel=HISTORY,
        ),
    ] = None,
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

    With --tiled, runs that this model has annotated are passed over, so that calling it again after a kill goes on;
    rows that are there stay, unless --only or --again asks otherwise.

    dvfb annotate --tiled https://tiled.example/api/v1/metadata/smi/raw --beamline smi.toml --since 2026-11-01

    dvfb annotate --tiled demo-output/catalog --beamline smi.toml --only failed,dropped
    """
    description_of = partial(
        detector_description, center_x, center_y, poni, mask or [], detector, from_file=True, dummies=dummy,
        delta=delta, ignore_file_mask=ignore_file_mask, counts_per_unit=counts_per_unit,
    )  # fmt: skip
    asked = History(
        uids=tuple(uid or ()), since=since, until=until, where=where, only=only, again=again,
        data_keys=tuple(data_key or ()), beamline=beamline, model=model, device=device, thresholds=thresholds,
        batch_size=batch_size, workers=workers, json=json, arrays=arrays,
        allowed_roots=tuple(allowed_root or ()),
    )  # fmt: skip
    if tiled is not None:
        if files or csv or output is not None or plot is not None:
            raise WrongCallError(
                "--tiled stores rows in the catalog: give no FILES, --csv, --output or --plot"
            )
        annotate_history(tiled, asked, description_of())
        return
    if asked.is_asked:
        raise WrongCallError(
            "--uid, --since, --until, --where, --data-key, --beamline, --allowed-root, --only, --again, --arrays and "
            "--workers need --tiled"
        )
    if not files:
        raise WrongCallError("Missing argument 'FILES...': give detector files, or --tiled URI")
    description = description_of()
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
