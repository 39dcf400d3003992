"""From which tilt of a detector on rings and labels change, and what straightening views gives back: JSON on stdout.

    python -m benchmarks.tilt > benchmarks/results/tilt.json

Every frame is simulated twice, on the same detector with the same sample: across the beam, and tilted. The tilted one
is annotated as it is and with its tilt declared. Frames are gathered by how far rings depart from circles, in view
pixels: half of the range of the radii of one scattering angle, without the outermost 2 %.
"""

from __future__ import annotations

import argparse
import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.command import run
from dvfb_stream import Annotator, Frame
from dvfb_stream.labels import LABELS
from dvfb_stream.simulation import Simulator
from dvfb_stream.simulation.settings import SimulationSettings
from dvfb_stream.tilt import Tilt

BINS = (0, 0.5, 1, 2, 4, 8, 16, math.inf)
"""View pixels."""

VIEW = 256


def departure(tilt: Tilt, center_x: float, center_y: float) -> float:
    """How far rings depart from circles in a view whose pixels are the detector's."""
    y, x = np.mgrid[0:VIEW:2.0, 0:VIEW:2.0]
    radius = np.hypot(x - center_x, y - center_y)
    straight = np.hypot(*tilt.straightened(x - center_x, y - center_y))
    ring = np.nan_to_num(straight / 2, nan=0).astype(int)
    shifts = [
        np.ptp(np.percentile((radius - straight)[ring == number], (2, 98))) / 2
        for number in np.unique(ring)
        if np.count_nonzero(ring == number) > 20
    ]
    return float(max(shifts))


def of_distances() -> dict[str, dict[str, float]]:
    """View pixels by the scattering angle in the corner and the tilt, beam in the middle of a square detector."""
    table = {}
    for corner in (1.4, 7.0, 14.0, 26.0, 40.0):
        distance = math.hypot(VIEW / 2, VIEW / 2) / math.tan(math.radians(corner))
        table[f"{corner} degrees in the corner"] = {
            f"{angle} degrees": round(
                departure(
                    Tilt(distance=distance, right=math.sin(math.radians(angle)), down=0.0), 127.5, 127.5
                ),
                2,
            )
            for angle in (0.5, 1, 2, 5, 10, 20)
        }
    return table


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Annotate pairs of frames."""
    torch.set_num_threads(1)
    settings = {"wide_angle": 0.7, "grazing": 0.0, "blank": 0.0, "sample": 1.0, "frames_per_experiment": 4}
    across, tilted = (
        Simulator(options.seed, settings=SimulationSettings(tilted=share, **settings))  # type: ignore[arg-type]
        for share in (0.0, 1.0)
    )
    pairs = [(across.frame(index), tilted.frame(index)) for index in range(options.frames)]
    tilts = [_tilt(frame.experiment) for _, frame in pairs]
    annotator = Annotator.load("default", device="cpu")
    ways = {
        "across": [Frame(one.pixels, one.geometry) for one, _ in pairs],
        "tilted": [Frame(one.pixels, one.geometry) for _, one in pairs],
        "straightened": [
            Frame(one.pixels, replace(one.geometry, tilt=tilt))
            for (_, one), tilt in zip(pairs, tilts, strict=True)
        ],
    }
    rows = {way: annotator.annotate(frames) for way, frames in ways.items()}
    departures = np.array(
        [
            departure(tilt, one.geometry.center_x, one.geometry.center_y)
            for (_, one), tilt in zip(pairs, tilts, strict=True)
        ]
    )
    angles = np.degrees([tilt.angle for tilt in tilts])
    found = []
    for low, high in itertools.pairwise(BINS):
        chosen = [
            index
            for index in np.flatnonzero((departures >= low) & (departures < high))
            if all(rows[way][index].ok for way in ways)
        ]
        if not chosen:
            continue
        found.append(
            {
                "view pixels": [low, high if math.isfinite(high) else None],
                "frames": len(chosen),
                "mean tilt in degrees": float(angles[chosen].mean()),
                "wrong labels a frame": {
                    way: float(
                        np.mean(
                            [
                                len(set(rows[way][index].labels) ^ set(pairs[index][1].labels))
                                for index in chosen
                            ]
                        )
                    )
                    for way in ways
                },
                "largest change of a probability, mean": {
                    way: float(
                        np.mean(
                            [
                                max(
                                    abs(rows["across"][index].scores[label] - rows[way][index].scores[label])
                                    for label in LABELS
                                )
                                for index in chosen
                            ]
                        )
                    )
                    for way in ("tilted", "straightened")
                },
            }
        )
    return {"frames": options.frames, "seed": options.seed, "departure": of_distances(), "labels": found}


def _tilt(experiment: dict[str, Any]) -> Tilt:
    """Return the tilt of an experiment, in view pixels: see `dvfb_stream.simulation.physics.geometry`."""
    view_pixel = experiment["pixel_mm"] * max(experiment["shape"]) / VIEW
    rot1, rot2 = experiment["rot1"], experiment["rot2"]
    return Tilt(
        distance=experiment["distance_mm"] / view_pixel,
        right=-math.cos(rot2) * math.sin(rot1),
        down=math.sin(rot2),
    )


if __name__ == "__main__":
    run("tilt", __doc__, measure, frames=1600, seed=9)
