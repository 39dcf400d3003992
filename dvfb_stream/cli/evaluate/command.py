"""``dvfb evaluate``: the paper's tables, ours beside the paper's, and how far a model can be trusted."""

from __future__ import annotations

import json as json_format
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dvfb_stream.cli.geometry_options import CenterX, CenterY, DetectorName, Masks, Poni
from dvfb_stream.cli.terminal import TaskProgress, WrongCallError, quiet_libraries, refuse_options

if TYPE_CHECKING:
    from dvfb_stream.training.examples import Examples

TABLES = (1, 2, 4)
WHAT, HOW = "What to measure", "How"


def evaluate(
    *,
    table: Annotated[
        int | None,
        typer.Option(
            metavar="1|2|4", help="A table of the paper, ours beside the paper's.", rich_help_panel=WHAT
        ),
    ] = None,
    novelty: Annotated[
        bool,
        typer.Option(
            "--novelty", help="How well frames that are no scattering stand out.", rich_help_panel=WHAT
        ),
    ] = False,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="LABELS.csv",
            help="How well a model ranks your own labelled frames (docs/models.md).",
            rich_help_panel=WHAT,
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(help="Bundle, by name or folder, for everything but tables.", rich_help_panel=WHAT),
    ] = "default",
    work: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Measure a table anew with the networks that `dvfb train --work FOLDER` left there.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option("--from", metavar="RESULTS.json", help="Print these results.", rich_help_panel=WHAT),
    ] = None,
    frames: Annotated[
        int, typer.Option(min=100, help="Simulated frames to measure a model on.", rich_help_panel=HOW)
    ] = 2000,
    scale: Annotated[
        float,
        typer.Option(min=0.05, max=1.0, help="Share of Table 4's number of frames.", rich_help_panel=HOW),
    ] = 1.0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="RESULTS.json", help="Write the results here.", rich_help_panel=HOW),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            metavar="FIGURE.png",
            help="Draw them: Figure 6 for Table 4, a reliability diagram for a model, distributions of novelty.",
            rich_help_panel=HOW,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...", rich_help_panel=HOW)] = "auto",
    processes: Annotated[
        int | None, typer.Option(min=1, help="At a time.  [default: one a core]", rich_help_panel=HOW)
    ] = None,
    center_x: CenterX = None,
    center_y: CenterY = None,
    poni: Poni = None,
    mask: Masks = None,
    detector: DetectorName = None,
    json: Annotated[bool, typer.Option("--json", help="Write the results as a JSON object.")] = False,
) -> None:
    """Measure a model, or one of the paper's tables.

    Without --work, a table is printed as it was measured for this version; with it, it is measured anew.

    dvfb evaluate --table 2

    dvfb evaluate --model default --figure reliability.png

    dvfb evaluate --novelty

    dvfb evaluate --labels labels.csv --center-x 302.7 --center-y 530.9

    dvfb evaluate --table 4 --work runs --out table-4.json --figure figure-6.png
    """
    geometry: dict[str, Any] = {
        "center_x": center_x,
        "center_y": center_y,
        "poni": poni,
        "mask": mask or [],
        "detector": detector,
    }
    if table is not None and table not in TABLES:
        raise WrongCallError(f"--table must be 1, 2 or 4, the paper's tables of results, not {table}")
    asked = [
        option
        for option, given in (
            ("--table", table is not None),
            ("--novelty", novelty),
            ("--labels", labels is not None),
        )
        if given
    ]
    if len(asked) > 1:
        raise WrongCallError(f"{' and '.join(asked)} are {len(asked)} measurements; give one of them")
    if results is not None and (asked or work is not None):
        raise WrongCallError(
            f"--from prints results that are there; leave {asked[0] if asked else '--work'} away"
        )
    if labels is None:
        refuse_options("belongs to --labels; simulated frames have a geometry of their own", **geometry)
    if labels is not None and figure is not None:
        raise WrongCallError("--figure draws Table 4, a model or --novelty, not --labels")
    if work is not None and table is None:
        raise WrongCallError("--work holds the networks of tables; give --table 1, 2 or 4 as well")
    if table in (1, 2) and figure is not None:
        raise WrongCallError(f"--figure draws Table 4, a model or --novelty, not Table {table}")
    from dvfb_stream.cli.evaluate.rendering import print_results
    from dvfb_stream.fbt import find_device

    chosen, at_a_time = str(find_device(device)), processes or os.cpu_count() or 1
    with quiet_libraries():
        if results is not None:
            found = _read(results)
        elif table is not None and work is None:
            found = _stored(table)
        elif labels is not None:
            found = _labelled(labels, model, chosen, geometry)
        else:
            with TaskProgress() as progress:
                found = _measure(
                    table=table,
                    novelty=novelty,
                    model=model,
                    work=work,
                    frames=frames,
                    scale=scale,
                    device=chosen,
                    processes=at_a_time,
                    report=progress.show,
                )
        if figure is not None:
            _draw(found, figure)
    shown = {name: value for name, value in found.items() if name not in ("probabilities", "truth")}
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json_format.dumps(shown, indent=2, allow_nan=False) + "\n")
    if json:
        typer.echo(json_format.dumps(shown, allow_nan=False))
    else:
        print_results(shown)
        for name, path in (("results", out), ("figure", figure)):
            if path is not None:
                typer.echo(f"wrote {name} {path}")
    if labels is not None and found["failures"]:
        raise typer.Exit(1)


def _stored(table: int) -> dict[str, Any]:
    """Return the results that came with this version."""
    from importlib import resources

    from dvfb_stream.errors import SettingsError

    name = f"table-{table}.json"
    try:
        text = (resources.files("dvfb_stream.results") / name).read_text()
    except (OSError, ModuleNotFoundError) as error:
        raise SettingsError(
            f"this installation brings no measured {name}; measure it: dvfb evaluate --table {table} --work runs"
        ) from error
    found: dict[str, Any] = json_format.loads(text)
    return found


def _read(path: Path) -> dict[str, Any]:
    from dvfb_stream.errors import SettingsError

    try:
        found = json_format.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} holds no results: {error}") from error
    if not isinstance(found, dict) or "kind" not in found:
        raise SettingsError(f"{path} holds no results of `dvfb evaluate`; make some with --out")
    return found


def _measure(
    *,
    table: int | None,
    novelty: bool,
    model: str,
    work: Path | None,
    frames: int,
    scale: float,
    device: str,
    processes: int,
    report: Callable[[str, int, int], None],
) -> dict[str, Any]:
    from dvfb_stream.training.results import described

    started = time.monotonic()
    if table is not None and work is not None:
        kind, found = f"table-{table}", _table(table, work, scale, device, processes, report)
    elif novelty:
        from dvfb_stream.cli.evaluate.novelty import measure_novelty
        from dvfb_stream.models import find_bundle, load_bundle

        kind = "novelty"
        found = measure_novelty(
            load_bundle(find_bundle(model)), frames=frames, seed=NOVELTY_SEED, report=report
        )
    else:
        from dvfb_stream.cli.evaluate.measuring import measure_bundle
        from dvfb_stream.models import find_bundle, load_bundle

        kind, bundle = "model", load_bundle(find_bundle(model))
        found = measure_bundle(bundle, _unseen(bundle, frames, processes, report), device=device)
    return described(kind, found, seconds=time.monotonic() - started, device=device)


def _labelled(table: Path, model: str, device: str, geometry: dict[str, Any]) -> dict[str, Any]:
    from dvfb_stream.cli.labelled.frames import by_centre
    from dvfb_stream.cli.labelled.table import read_label_table

    read = read_label_table(table)
    groups = by_centre(read, **geometry)
    # Last: these take seconds, and most of what a user may have got wrong is known by now.
    from dvfb_stream.cli.evaluate.labelled import measure_labelled
    from dvfb_stream.models import find_bundle, load_bundle
    from dvfb_stream.training.results import described

    started = time.monotonic()
    found = measure_labelled(load_bundle(find_bundle(model)), read, groups, device=device)
    return described("labelled", found, seconds=time.monotonic() - started, device=device)


NOVELTY_SEED = 6
"""Of the simulator, for frames that novelty is measured on."""

MODEL_SEED = 5
"""Of the simulator, for frames that a model is measured on; bundles are tested on another while they are made."""


def _unseen(bundle: Any, frames: int, processes: int, report: Callable[[str, int, int], None]) -> Examples:
    import tempfile

    from dvfb_stream.training.dataset import SimulatedDataset, build

    with tempfile.TemporaryDirectory() as folder:
        return build(
            Path(folder) / "frames",
            SimulatedDataset(seed=MODEL_SEED, count=frames, fbt=bundle.fbt_settings),
            processes=processes,
            report=lambda done, total: report("simulating, blocks of 100 frames", done, total),
        ).in_memory()


def _table(
    table: int,
    work: Path,
    scale: float,
    device: str,
    processes: int,
    report: Callable[[str, int, int], None],
) -> dict[str, Any]:
    from dvfb_stream.cli.evaluate import measuring
    from dvfb_stream.training.dataset import SimulatedDataset, build
    from dvfb_stream.training.presets import SEEDS

    bundles = measuring.find_networks(table, work)
    trained = measuring.scale_of(bundles)
    found: dict[str, Any] = {"table": table, "trained_on": trained}
    if table == 4:
        from dvfb_stream.cli.evaluate.domains import measure_table4

        return found | measure_table4(
            bundles, work, scale=scale, processes=processes, device=device, report=report
        )
    facts = bundles["joint"].description.training
    sets = {
        which: build(
            work / "frames" / which,
            SimulatedDataset(
                seed=SEEDS[which], count=facts["frames"][which], fbt=bundles["joint"].fbt_settings
            ),
            processes=processes,
            report=lambda done, total: report("simulating, blocks of 100 frames", done, total),
        )
        for which in ("train", "test")
    }
    if table == 1:
        return found | measuring.measure_table1(
            bundles, sets["train"], sets["test"], device=device, report=report
        )
    return found | measuring.measure_table2(bundles, sets["test"], device=device, report=report)


def _draw(found: dict[str, Any], figure: Path) -> None:
    from dvfb_stream.cli.evaluate.figures import figure6, reliability_figure
    from dvfb_stream.cli.output_files import NumberedFigures
    from dvfb_stream.errors import SettingsError

    if found["kind"] == "table-4":
        drawn = figure6(found)
    elif found["kind"] == "novelty":
        from dvfb_stream.cli.evaluate.novelty import novelty_figure

        drawn = novelty_figure(found)
    elif "probabilities" in found:
        drawn = reliability_figure(found["probabilities"], found["truth"])
    else:
        raise SettingsError("a reliability diagram needs the frames; measure the model anew, without --from")
    NumberedFigures(figure, [], option="--figure").save(drawn)
