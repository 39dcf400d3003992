"""``dvfb plot``: the paper's figures of the basis and of the masked estimate, for any frame."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dvfb_stream.cli.options import (
    CenterX,
    CenterY,
    CountsPerUnit,
    Delta,
    DetectorName,
    Downsample,
    Dummies,
    IgnoreFileMask,
    Json,
    L1Ratio,
    Masks,
    Orders,
    Penalty,
    Poni,
    RadialCount,
    Radius,
    Reading,
    detector_description,
    files_read,
    flag,
    fourier_bessel_settings,
    option,
    whole_numbers,
)
from dvfb_stream.cli.terminal import WrongCallError, quiet_libraries, say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SIMULATED = "Simulated frames instead of files"
OUTPUT = "Output"


def basis(
    *,
    radial: Annotated[str, option("N,N,...", "Radial indices n from 1, a row each.")] = "1,2,3",
    orders: Annotated[str, option("M,M,...", "Angular orders m from 0, a column each.")] = "0,2,4",
    output: Annotated[Path, option("FILE.png", "Where the figure goes.")] = Path("basis.png"),
    json: Json = False,
) -> None:
    """Draw Fourier-Bessel basis functions, real and imaginary parts, on their disk: the paper's Figure 3.

    Each function is coloured from minus to plus its own largest magnitude, which stands below it.

    dvfb plot basis

    dvfb plot basis --radial 1,5,10 --orders 0,4,6 --output basis.png
    """
    rows = whole_numbers(radial, "--radial", least=1)
    columns = whole_numbers(orders, "--orders", least=0)
    from dvfb_stream.cli.output_files import figure_file
    from dvfb_stream.cli.plot.basis import basis_functions, draw_basis

    place = figure_file(output, option="--output")
    functions = basis_functions(rows, columns)
    with quiet_libraries():
        path = place.save(draw_basis(functions))
    if json:
        facts = [
            {"n": function.n, "m": function.m, "root": function.root, "peak": function.peak}
            for row in functions
            for function in row
        ]
        say(json_format.dumps({"figure": str(path), "functions": facts}, allow_nan=False))
    else:
        say(f"wrote {path}: n = {', '.join(map(str, rows))}; m = {', '.join(map(str, columns))}")


def estimate(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILES", help="Detector images, as `dvfb annotate` reads them."),
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
    frame: Annotated[
        list[int] | None,
        option(
            "N",
            "Draw frame N of each file, counted from 0; give it again for more. If not given: all, up to "
            "--max-frames.",
            min=0,
            max=10**12,
        ),
    ] = None,
    max_frames: Annotated[
        int, option("N", "Figures of each file at most, where --frame does not choose.", min=1, max=10**6)
    ] = 16,
    simulate: Annotated[
        bool,
        flag("Draw simulated frames: --frame chooses which, frame 0 if not given.", panel=SIMULATED),
    ] = False,
    seed: Annotated[
        int | None, option("N", "Of the simulation; 0 if not given.", panel=SIMULATED, min=0)
    ] = None,
    penalty: Penalty = 1e-4,
    l1_ratio: L1Ratio = 0.8,
    reading: Reading = "per_sample",
    radius: Radius = 256.0,
    n_radial: RadialCount = 40,
    orders: Orders = "0,2,4,6,8,10,12,14,16,18,20",
    downsample: Downsample = 2,
    coefficients: Annotated[
        str,
        option(
            "magnitude|parts",
            "How coefficients are drawn: their magnitudes, or real and imaginary parts.",
            panel=OUTPUT,
        ),
    ] = "magnitude",
    output_dir: Annotated[
        Path,
        option(
            "FOLDER",
            "Where NAME-estimate.png goes for a file NAME.tif; NAME-frame-0-estimate.png, ... for one of several "
            "frames. Made if need be.",
            panel=OUTPUT,
        ),
    ] = Path("figures"),
    json: Json = False,
) -> None:
    """Draw frames, their masks, what the Fourier-Bessel coefficients recover of them, and the coefficients: Figure 5.

    The frame is seen as the networks see it: a 256 x 256 log-intensity view. What is recovered behind gaps and
    beyond the fitted disk is what the coefficients predict there. Fit residual: share of the fitted pixels' energy
    that the coefficients leave unexplained, 0 to 1; a smaller --penalty makes it smaller.

    A frame that cannot be estimated costs one line on stderr; the others are drawn, and the exit status is 1.

    dvfb plot estimate frame.tif --center-x 302.7 --center-y 530.9 --detector Pilatus1M

    dvfb plot estimate scan.h5::/entry/data/data --poni agbh.poni --frame 0 --frame 99 --coefficients parts

    dvfb plot estimate --simulate --seed 7
    """
    described = {
        "--center-x": center_x,
        "--center-y": center_y,
        "--poni": poni,
        "--mask": mask,
        "--detector": detector,
    }
    if simulate:
        _refuse_files(files or [], described)
    elif not files:
        raise WrongCallError("name the files to draw, or give --simulate")
    elif seed is not None:
        raise WrongCallError("--seed is of simulated frames; give --simulate, not files")
    description = (
        None
        if simulate
        else detector_description(
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
    )
    if coefficients not in ("magnitude", "parts"):
        raise WrongCallError(f"--coefficients must be magnitude or parts, not {coefficients!r}")
    settings = fourier_bessel_settings(
        penalty=penalty,
        l1_ratio=l1_ratio,
        reading=reading,
        radius=radius,
        n_radial=n_radial,
        orders=orders,
        downsample=downsample,
    )
    with quiet_libraries():
        from dvfb_stream.cli.plot.drawing import (
            EstimateFiles,
            RecordedFrames,
            SimulatedFrames,
            draw_estimates,
        )
        from dvfb_stream.cli.plot.estimate import Estimator
        from dvfb_stream.cli.plot.estimate_figure import Coefficients

        inputs = [] if description is None else files_read(files or [], description)
        failed = draw_estimates(
            SimulatedFrames(seed or 0, frame or [0])
            if description is None
            else RecordedFrames(files or [], description.load(), frame, max_frames),
            Estimator(settings),
            EstimateFiles(output_dir, inputs),
            Coefficients(coefficients),
            json=json,
        )
    if failed:
        raise typer.Exit(1)


def _refuse_files(files: Sequence[str], described: Mapping[str, Any]) -> None:
    given = [*files, *(option for option, value in described.items() if value is not None)]
    if given:
        raise WrongCallError(f"{given[0]}: --simulate makes frames and their geometry; name no files with it")


FIGURES = (basis, estimate)
