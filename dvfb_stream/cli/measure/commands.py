"""How far a model can be trusted: ``evaluate``, ``invariance``, ``rank``, ``novelty``, and the paper's tables."""

from __future__ import annotations

import json as json_format
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dvfb_stream.cli.options import (
    CenterX,
    CenterY,
    DetectorName,
    Device,
    Json,
    Masks,
    Model,
    Out,
    Poni,
    Processes,
    Thresholds,
    choose,
    option,
)
from dvfb_stream.cli.terminal import (
    FailureReporter,
    ProgressBar,
    TaskProgress,
    WrongCallError,
    quiet_libraries,
    say,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Frames = Annotated[int, option("N", "Simulated frames to measure on.", min=100, max=1_000_000)]
Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="Real frames with a labels.json (docs/real-frames.md).")
]
Without = Annotated[
    list[str] | None, option("SETUP", "Leave the frames of a set-up out; give it again for further ones.")
]
TABLES = ("1", "2", "4")
Table = Annotated[str, typer.Argument(metavar="1|2|4", help="Which of the paper's tables of results.")]

SIMULATED_FRAMES = 2000
"""That a model is measured on unless told otherwise: a label that 9 % have is then known to some hundredths."""
MODEL_SEED = 5
"""Of the simulator, for frames that a model is measured on; bundles are tested on another while they are made."""
NOVELTY_SEED = 6
"""Of the simulator, for frames that novelty is measured on."""


def evaluate(
    *,
    model: Model = "default",
    real: Annotated[
        Path | None,
        option("FOLDER", "Measure on real frames instead, with known labels in FOLDER/labels.json."),
    ] = None,
    without: Without = None,
    thresholds: Thresholds = "best_f1",
    frames: Annotated[
        int | None,
        option("N", "Simulated frames to measure on.  [default: 2000]", min=100, max=1_000_000),
    ] = None,
    out: Out = None,
    figure: Annotated[
        Path | None, option("FIGURE.png", "Draw a reliability diagram, or the real table.")
    ] = None,
    figures: Annotated[
        Path | None,
        option(
            "FOLDER",
            "Of real frames: draw for each label the five that it is surest of and right about, and five that it is "
            "wrong about, to FOLDER/LABEL.png, with what is measured along the azimuth.",
        ),
    ] = None,
    device: Device = "auto",
    processes: Processes = None,
    json: Json = False,
) -> None:
    """Measure a model on frames it has not seen: how well it ranks, how honest its probabilities are.

    dvfb evaluate --model default --figure reliability.png

    On real frames of several set-ups, each set-up weighed alike: dvfb evaluate --real FOLDER

    On labelled frames of your own: dvfb rank
    """
    if real is not None:
        if frames is not None or processes is not None:
            raise WrongCallError(
                "--frames and --processes are for simulated frames; leave them out with --real"
            )
        _evaluate_real(real, without or [], model, thresholds, device, out, figure, figures, json=json)
        return
    if figures is not None:
        raise WrongCallError("--figures shows real frames; give their folder: --real FOLDER")
    if thresholds != "best_f1":
        raise WrongCallError(
            "--thresholds is for real frames; simulated ones are ranked, and none is accepted: --real FOLDER"
        )
    if without:
        raise WrongCallError("--without leaves out set-ups of real frames; give their folder: --real FOLDER")
    with _Results("model", device, out, figure, json=json) as results:
        import dvfb_stream.reproduction.peer_networks  # noqa: F401 - their networks and recipes have names now
        from dvfb_stream.cli.measure.charts import reliability_figure
        from dvfb_stream.models import find_bundle, load_bundle
        from dvfb_stream.training.measurement import measure_bundle, unseen_examples

        bundle = load_bundle(find_bundle(model))
        with TaskProgress() as progress:
            examples = unseen_examples(
                bundle,
                frames or SIMULATED_FRAMES,
                seed=MODEL_SEED,
                processes=processes or os.cpu_count() or 1,
                report=lambda done, total: progress.show("simulating, blocks of 100 frames", done, total),
            )
        found = measure_bundle(bundle, examples, device=results.device)
        stated, truth = found.pop("probabilities"), found.pop("truth")
        results.show(found, draw=lambda: reliability_figure(stated, truth))


def _evaluate_real(
    folder: Path,
    without: list[str],
    model: str,
    thresholds: str,
    device: str,
    out: Path | None,
    figure: Path | None,
    figures: Path | None,
    *,
    json: bool,
) -> None:
    """Measure on a folder of real frames; a frame that cannot be annotated costs a line, and the exit status is 1."""
    with _Results("real", device, out, figure, json=json) as results:
        from dvfb_stream.cli.labelled.folder import read_folder
        from dvfb_stream.cli.output_files import figures_folder

        frames = read_folder(folder, without=without)
        if figures is not None:
            figures_folder(figures, option="--figures")
        import dvfb_stream.reproduction.peer_networks  # noqa: F401 - their networks and recipes have names now
        from dvfb_stream.annotator import Annotator
        from dvfb_stream.cli.measure.label_frames import JudgedFrame
        from dvfb_stream.cli.measure.label_sheets import draw_label_sheets
        from dvfb_stream.cli.measure.real import measure_real
        from dvfb_stream.cli.measure.real_charts import real_figure

        judged: list[JudgedFrame] = []
        annotator = Annotator.load(model, device=results.device, thresholds=thresholds)
        with ProgressBar(len(frames), "annotating") as progress:
            reporter = FailureReporter(progress)
            found = measure_real(
                annotator,
                frames,
                seen=lambda real, annotation: judged.append(JudgedFrame(real, annotation)),
                advance=progress.advance,
                failed=reporter.failed,
            )
        found = {"folder": folder.resolve().name, "without": without, **found}
        results.show(found, draw=lambda: real_figure(found))
        if figures is not None:
            drawn = draw_label_sheets(judged, figures, model=str(annotator.identity))
            if not json:
                say(f"wrote {len(drawn)} figures to {figures}")
    if found["failures"]:
        raise typer.Exit(1)


def invariance(
    folder: Folder,
    *,
    model: Model = "default",
    without: Without = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Three frames of each set-up, in some of the ways.")
    ] = False,
    out: Out = None,
    figure: Annotated[Path | None, option("FIGURE.png", "Draw the shares.")] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Measure whether labels stay the same when real frames are turned, exposed, masked or binned otherwise.

    Nobody has to label them. A frame takes some seconds, with --quick one or two.

    dvfb invariance FOLDER --out invariance.json
    """
    with _Results("invariance", device, out, figure, json=json) as results:
        from dvfb_stream.cli.labelled.folder import read_folder

        frames = read_folder(folder, without=without or [])
        import dvfb_stream.reproduction.peer_networks  # noqa: F401 - their networks and recipes have names now
        from dvfb_stream.annotator import Annotator
        from dvfb_stream.cli.measure.real import QUICK_FRAMES, by_setup, measure_altered
        from dvfb_stream.cli.measure.real_charts import invariance_figure
        from dvfb_stream.training.real_frames.ways import QUICK, THOROUGH

        frames = by_setup(frames, QUICK_FRAMES if quick else None)
        annotator = Annotator.load(model, device=results.device)
        with ProgressBar(len(frames), "altering and annotating") as progress:
            reporter = FailureReporter(progress)
            found = measure_altered(
                annotator,
                frames,
                ways=QUICK if quick else THOROUGH,
                advance=progress.advance,
                failed=reporter.failed,
            )
        found = {"folder": folder.resolve().name, "without": without or [], "quick": quick, **found}
        results.show(found, draw=lambda: invariance_figure(found))
    if found["failures"]:
        raise typer.Exit(1)


def rank(
    labels: Annotated[
        Path, typer.Argument(metavar="LABELS.csv", help="Which frames have which labels (docs/models.md).")
    ],
    *,
    model: Model = "default",
    center_x: CenterX = None,
    center_y: CenterY = None,
    poni: Poni = None,
    mask: Masks = None,
    detector: DetectorName = None,
    out: Out = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Measure how well a model ranks labelled frames of your own.

    A frame that cannot be annotated costs one line on stderr; the others are measured, and the exit status is 1.

    dvfb rank labels.csv --center-x 302.7 --center-y 530.9
    """
    from dvfb_stream.cli.labelled.frames import by_centre
    from dvfb_stream.cli.labelled.table import read_label_table

    table = read_label_table(labels)
    with _Results("labelled", device, out, None, json=json) as results:
        groups = by_centre(
            table, center_x=center_x, center_y=center_y, poni=poni, mask=mask or [], detector=detector
        )
        import dvfb_stream.reproduction.peer_networks  # noqa: F401 - their networks and recipes have names now
        from dvfb_stream.cli.measure.ranking import measure_labelled
        from dvfb_stream.models import find_bundle, load_bundle

        found = measure_labelled(load_bundle(find_bundle(model)), table, groups, device=results.device)
        results.show(found)
    if found["failures"]:
        raise typer.Exit(1)


def novelty(
    *,
    model: Model = "default",
    frames: Frames = 2000,
    out: Out = None,
    figure: Annotated[Path | None, option("FIGURE.png", "Draw the distributions of novelty.")] = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Measure how well frames that are no scattering stand out from simulated ones.

    dvfb novelty --figure novelty.png
    """
    with _Results("novelty", device, out, figure, json=json) as results, TaskProgress() as progress:
        import dvfb_stream.reproduction.peer_networks  # noqa: F401 - their networks and recipes have names now
        from dvfb_stream.cli.measure.charts import novelty_figure
        from dvfb_stream.models import find_bundle, load_bundle
        from dvfb_stream.reproduction.novelty_of_kinds import measure_novelty

        bundle = load_bundle(find_bundle(model))
        found = measure_novelty(
            bundle, frames=frames, seed=NOVELTY_SEED, device=results.device, report=progress.show
        )
        results.show(found, draw=lambda: novelty_figure(found))


def tables(table: Table, *, json: Json = False) -> None:
    """Print a table of the paper, ours beside the paper's, as it was last measured.

    The lines beneath say how the networks were fitted, and whether by an earlier simulator.

    dvfb tables 2

    To measure it anew: dvfb reproduce
    """
    from importlib import resources

    from dvfb_stream.errors import SettingsError

    name = f"table-{choose(table, TABLES, 'table')}.json"
    try:
        text = (resources.files("dvfb_stream.results") / name).read_text(encoding="utf-8")
    except (OSError, ModuleNotFoundError) as error:
        raise SettingsError(
            f"this installation brings no measured {name}; measure it: dvfb reproduce {table} --work runs"
        ) from error
    _print(json_format.loads(text), json=json)


def reproduce(
    table: Table,
    *,
    work: Annotated[Path, option("FOLDER", "Where `dvfb train --work FOLDER` left the networks.")] = Path(
        "runs"
    ),
    scale: Annotated[float, option("SHARE", "Of the frames of Table 4.", min=0.05, max=1.0)] = 1.0,
    out: Out = None,
    device: Device = "auto",
    processes: Processes = None,
    json: Json = False,
) -> None:
    """Measure a table of the paper anew, with networks that `dvfb train` has made.

    dvfb reproduce 4 --work runs --out table-4.json

    dvfb results table-4.json --figure figure-6.png
    """
    number = int(choose(table, TABLES, "table"))
    with _Results(f"table-{table}", device, out, None, json=json) as results, TaskProgress() as progress:
        from dvfb_stream.reproduction.tables import measure_table

        found = measure_table(
            number,
            work,
            scale=scale,
            device=results.device,
            processes=processes or os.cpu_count() or 1,
            report=progress.show,
        )
        results.show(found)


def results(
    file: Annotated[Path, typer.Argument(metavar="RESULTS.json", help="What a command wrote to --out.")],
    *,
    figure: Annotated[
        Path | None,
        option(
            "FIGURE.png", "Draw them: Figure 6 for Table 4, distributions for novelty, tables of real frames."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Print results that `dvfb evaluate`, `rank`, `novelty` or `reproduce` wrote to a file, and draw them.

    dvfb results table-4.json --figure figure-6.png
    """
    from dvfb_stream.errors import SettingsError

    try:
        found = json_format.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{file} holds no results: {error}") from error
    if not isinstance(found, dict) or "kind" not in found:
        raise SettingsError(f"{file} holds no results of `dvfb evaluate` and the like; make some with --out")
    _print(found, json=json)
    if figure is not None:
        from dvfb_stream.cli.measure.charts import figure6, novelty_figure
        from dvfb_stream.cli.measure.real_charts import invariance_figure, real_figure
        from dvfb_stream.cli.output_files import figure_file

        drawn = {
            "table-4": figure6,
            "novelty": novelty_figure,
            "real": real_figure,
            "invariance": invariance_figure,
        }.get(found["kind"])
        if drawn is None:
            raise SettingsError(
                f"{file} is not drawn: of results in a file, those of Table 4, of novelty and of real frames are; a "
                "reliability diagram is drawn by dvfb evaluate --figure"
            )
        with quiet_libraries():
            path = figure_file(figure, option="--figure").save(drawn(found))
        if not json:
            say(f"wrote figure {path}")


class _Results:
    """Where the results of a measurement go; what cannot be written is refused before it begins."""

    def __init__(self, kind: str, device: str, out: Path | None, figure: Path | None, *, json: bool) -> None:
        from dvfb_stream.cli.output_files import OutputFile, figure_file

        self._kind, self._json = kind, json
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
        self._out = None if out is None else OutputFile(out, option="--out", suffixes=(".json",))
        self._figure = None if figure is None else figure_file(figure, option="--figure")
        self._device = device
        self._quiet = quiet_libraries()

    def __enter__(self) -> _Results:
        from dvfb_stream.fbt import find_device

        self._quiet.__enter__()
        self.device = str(find_device(self._device))
        self._started = time.monotonic()
        return self

    def __exit__(self, *error: Any) -> None:
        self._quiet.__exit__(*error)

    def show(self, found: dict[str, Any], draw: Callable[[], Figure] | None = None) -> None:
        """Write, print and draw what was found."""
        from dvfb_stream.training.results import described

        whole = described(self._kind, found, seconds=time.monotonic() - self._started, device=self.device)
        if self._out is not None:
            with self._out.opened() as stream:
                stream.write(json_format.dumps(whole, indent=2, allow_nan=False) + "\n")
        _print(whole, json=self._json)
        written = {"results": None if self._out is None else self._out.path}
        if self._figure is not None and draw is not None:
            written["figure"] = self._figure.save(draw())
        for what, path in written.items():
            if path is not None and not self._json:
                say(f"wrote {what} {path}")


def _print(found: dict[str, Any], *, json: bool) -> None:
    if json:
        say(json_format.dumps(found, allow_nan=False))
    else:
        from dvfb_stream.cli.measure.sheets import print_results

        print_results(found)
