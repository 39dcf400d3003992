"""``dvfb simulate``: labelled frames of a simulated beamline, as a dataset, a contact sheet, or both."""

from __future__ import annotations

import json as json_format
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from dvfb_stream.cli.options import Device, Json, flag, option
from dvfb_stream.cli.terminal import TaskProgress, WrongCallError, quiet_libraries, report_note, say
from dvfb_stream.errors import SettingsError

if TYPE_CHECKING:
    from dvfb_stream.simulation import SimulationSettings, Simulator

WHAT = "Which frames"


def simulate(
    *,
    out: Annotated[Path | None, option("DATASET.h5", "Write the frames here; resumed if begun.")] = None,
    preview: Annotated[
        Path | None, option("SHEET.png", "Draw a contact sheet: frames of each label.")
    ] = None,
    count: Annotated[
        int, option("N", "Frames, from the first of the seed on.", min=1, max=100_000_000)
    ] = 1000,
    seed: Annotated[int, option("N", "Frames of another seed are other frames.", min=0)] = 0,
    settings: Annotated[
        Path | None,
        option("FILE.toml", "Mixture, detectors, exposures, ... (docs/simulate.md).", panel=WHAT),
    ] = None,
    raster: Annotated[
        str | None,
        option("view|detector", "256 x 256 views (the default), or the detector's own pixels.", panel=WHAT),
    ] = None,
    detector: Annotated[
        str | None, option("NAME", "One detector for all: pilatus_1m, eiger_4m, ccd, ...", panel=WHAT)
    ] = None,
    real_beamlines: Annotated[
        bool,
        flag(
            "With what real detectors and optics do: round and cropped detectors, oblique arms, glow, fibres over "
            "scattering at low q, wrong centres, ...",
            "--real-beamlines",
            panel=WHAT,
        ),
    ] = False,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Simulate labelled scattering frames, the material that networks are trained on.

    A frame follows from seed and number alone. Interrupted and called again in the same words, the command goes on
    where it was and ends with the same file, byte by byte. h5py reads it, the pixels with hdf5plugin; in the masks
    (entry/experiments/masked) 1 means masked.

    dvfb simulate --count 1000 --seed 7 --out frames.h5

    dvfb simulate --preview sheet.png

    dvfb simulate --real-beamlines --count 30000 --out real.h5

    dvfb simulate --count 50 --raster detector --detector pilatus_1m --out pilatus.h5
    """
    if out is None and preview is None:
        raise WrongCallError("nothing to do: give --out DATASET.h5, --preview SHEET.png or both")
    chosen = _settings(settings, raster, detector, real_beamlines=real_beamlines)
    from dvfb_stream.cli.output_files import figure_file
    from dvfb_stream.simulation import Simulator

    inputs = [] if settings is None else [settings]
    sheet = None if preview is None else figure_file(preview, inputs, option="--preview")
    simulator = Simulator(seed, settings=chosen, device=device)
    result: dict[str, Any] = {"seed": seed, "count": count}
    with quiet_libraries():
        if out is not None:
            result |= _write(out, simulator, count)
        if sheet is not None:
            from dvfb_stream.cli.simulate.preview import draw_preview

            result["preview"] = str(sheet.save(draw_preview(simulator, count)))
    if json:
        say(json_format.dumps(result, allow_nan=False))
        return
    if out is not None:
        _show(result)
    if preview is not None:
        say(f"wrote {preview}")


def _settings(
    path: Path | None, raster: str | None, detector: str | None, *, real_beamlines: bool
) -> SimulationSettings:
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(
                f"cannot read the simulation settings {path}: {error.strerror or error}"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"the simulation settings {path} are not TOML: {error}") from error
    from dvfb_stream.simulation import SimulationSettings

    try:
        SimulationSettings.from_dict(values)
    except SettingsError as error:
        raise SettingsError(f"the simulation settings {path} are refused: {error}") from error
    if raster is not None:
        values["raster"] = raster
    if detector is not None:
        described = values.get("detectors", {}).get(detector, 1.0)
        values |= {"detectors": {detector: described}}
    if values.get("raster") == "detector":
        # Frames of one dataset are of one shape.
        values.setdefault("sideways", 0.0)
    try:
        if real_beamlines:
            return SimulationSettings.real_beamlines(**values)
        return SimulationSettings.from_dict(values)
    except SettingsError as error:
        raise WrongCallError(str(error)) from error


def _write(out: Path, simulator: Simulator, count: int) -> dict[str, Any]:
    from dvfb_stream.cli.simulate.dataset import DatasetWriter
    from dvfb_stream.cli.simulate.layout import label_ratios

    writer = DatasetWriter(out, simulator, count)
    started = time.perf_counter()
    try:
        with TaskProgress() as progress:
            kept = writer.write(_Written(count, progress).advance)
    except KeyboardInterrupt:
        report_note(
            f"what is done is kept in {out}.parts; called again in the same words, the command goes on"
        )
        raise
    seconds = time.perf_counter() - started
    made = count - kept
    return {
        "dataset": str(out),
        "resumed_from": kept,
        "frames_per_second": made / seconds if made else None,
        "ratios": label_ratios(out),
    }


class _Written:
    """Frames written of all, and how many a second are made."""

    def __init__(self, count: int, progress: TaskProgress) -> None:
        self._count = count
        self._progress = progress
        self._started: float | None = None
        self._first = self._done = 0

    def advance(self, frames: int) -> None:
        """Count so many more; the first so many were there before."""
        now = time.perf_counter()
        self._done += frames
        if self._started is None:
            self._started, self._first = now, self._done
        passed = now - self._started
        speed = f"{(self._done - self._first) / passed:.0f} frames/s" if passed > 0.5 else ""
        self._progress.show("simulating", self._done, self._count, speed)


def _show(result: dict[str, Any]) -> None:
    from dvfb_stream.labels import TITLES
    from dvfb_stream.reproduction.paper import POSITIVE_RATIOS

    say(f"{'':20}{'here':>8}{'paper':>8}")
    for label, share in result["ratios"].items():
        paper = f"{POSITIVE_RATIOS[label]:8.3f}" if label in POSITIVE_RATIOS else ""
        say(f"{TITLES[label]:20}{share:8.3f}{paper}")
    frames = f"{result['count']} frames of seed {result['seed']}"
    speed, kept = result["frames_per_second"], result["resumed_from"]
    if speed is None:
        say(f"{result['dataset']} is complete: {frames}")
        return
    before = f", {kept} of them made before" if kept else ""
    say(f"wrote {result['dataset']}: {frames}{before}, at {speed:.3g} frames a second")
