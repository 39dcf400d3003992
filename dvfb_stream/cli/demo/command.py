"""``dvfb demo``: the whole way from a scan to the answer of a search, on this machine and in a minute."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvfb_stream.cli.options import (
    CenterX,
    CenterY,
    DetectorName,
    Masks,
    Model,
    Poni,
    detector_description,
    option,
)
from dvfb_stream.cli.output_files import check_writable
from dvfb_stream.cli.terminal import WrongCallError
from dvfb_stream.errors import SettingsError

if TYPE_CHECKING:
    from dvfb_stream.cli.demo.results import Presentation
    from dvfb_stream.profiles.scans import Scan

FRAMES = 40
SECONDS_TO_WAIT = 600.0
"""For the last rows: 40 frames take seconds, on a slow machine with a large detector minutes."""
IMAGES = "Your own frames instead of simulated ones"


def demo(
    *,
    frames: Annotated[
        int | None,
        option(
            "N",
            f"Exposures in all. If not given: {FRAMES} simulated ones, or each frame of --images once. More than "
            "there are images: they are exposed again from the first.",
            min=1,
            max=1_000_000,
        ),
    ] = None,
    seed: Annotated[
        int, option("N", "Of the simulated frames and of their beam centre and mask.", min=0)
    ] = 0,
    model: Model = "default",
    output: Annotated[
        Path, option("FOLDER", "For the catalog, the contact sheet and the log; runs add up in it.")
    ] = Path("demo-output"),
    images: Annotated[
        list[str] | None,
        option("FILES", "Detector files, all of one shape, as `dvfb annotate` reads them.", panel=IMAGES),
    ] = None,
    center_x: CenterX = None,
    center_y: CenterY = None,
    poni: Poni = None,
    mask: Masks = None,
    detector: DetectorName = None,
    more_images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILES]...", help="Further files of --images, so that a shell's wildcards work."
        ),
    ] = None,
) -> None:
    """Scan simulated samples with live annotation, search the catalog for 4-fold symmetry, and draw what was found.

    A RunEngine scans four samples in front of a simulated detector; a Tiled server inside this process stores the
    raw runs and their annotations; then it is asked which runs show 4-fold symmetry. The catalog, a contact sheet
    (contact-sheet.png) and a log stay in the output folder.

    dvfb demo

    dvfb demo --images run7_*.tif --center-x 302.7 --center-y 530.9
    """
    files = [*(images or []), *(more_images or [])]
    if more_images and not images:
        raise WrongCallError(f"{more_images[0]}: files of your own come after --images")
    options = {"--center-x": center_x, "--center-y": center_y, "--poni": poni, "--detector": detector}
    given = [f"{option}={value}" for option, value in options.items() if value is not None]
    given += [f"--mask={file}" for file in mask or []]
    if given and not files:
        raise WrongCallError(
            f"{given[0].partition('=')[0]} describes frames of your own; name them by --images"
        )
    description = detector_description(center_x, center_y, poni, mask or [], detector) if files else None

    _prepare(output)
    with _logged_to(output / "demo.log"):
        # Here, not above: it takes seconds, and what a user got wrong is mostly known by now.
        from dvfb_stream.cli.demo.results import Presentation
        from dvfb_stream.profiles.exposures import RecordedExposures
        from dvfb_stream.profiles.scans import Scan, scans_of_samples

        if description is None:
            scans = scans_of_samples(frames or FRAMES, seed)
        else:
            recorded = RecordedExposures(files, description.load())
            scans = [Scan(sample="your frames", exposures=recorded, frames=frames or len(recorded))]
        presentation = Presentation(output, model=model, seed=seed, files=files, options=given)
        _scan_and_search(scans, model, output, presentation)


def _scan_and_search(scans: list[Scan], model: str, output: Path, presentation: Presentation) -> None:
    from dvfb_stream.annotator import Annotator
    from dvfb_stream.callbacks import AnnotationTable
    from dvfb_stream.profiles.catalogs import served_folder
    from dvfb_stream.profiles.scans import run_scans

    annotator = Annotator.load(model)
    with served_folder(output / "catalog") as catalog:
        presentation.begin(scans, annotator)
        uids = run_scans(
            scans,
            annotator,
            catalog,
            sinks=[AnnotationTable()],
            arrays=["features"],  # dvfb similar finds frames by them
            timeout=SECONDS_TO_WAIT,
        )
        presentation.answer(catalog)
        presentation.draw(catalog, uids, scans[0].exposures.geometry)
    presentation.end()


def _prepare(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"output {output} cannot be written to: {error.strerror or error}") from error
    check_writable(output, f"output {output}")


@contextmanager
def _logged_to(file: Path) -> Iterator[None]:
    """Send what libraries log and warn about to a file instead of the terminal (``--verbose``: to both)."""
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root, requests = logging.getLogger(), logging.getLogger("httpx")
    levels = root.level, requests.level
    root.addHandler(handler)
    root.setLevel(min(root.level or logging.INFO, logging.INFO))
    requests.setLevel(logging.WARNING)  # addresses may carry keys
    logging.captureWarnings(True)  # noqa: FBT003 - logging's own signature
    try:
        yield
    finally:
        logging.captureWarnings(False)  # noqa: FBT003
        root.setLevel(levels[0])
        requests.setLevel(levels[1])
        root.removeHandler(handler)
        handler.close()
