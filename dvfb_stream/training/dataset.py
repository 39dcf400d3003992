"""Simulated frames as the networks see them, computed once and kept in shards, one file an experiment."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dvfb_stream.errors import FrameError, GeometryError, SettingsError
from dvfb_stream.fbt import FourierBessel, FourierBesselSettings
from dvfb_stream.labels import LABELS
from dvfb_stream.models.inputs import halve
from dvfb_stream.simulation import SimulatedFrame, SimulationSettings, Simulator
from dvfb_stream.view import ViewPlan

FRAMES_PER_SHARD = 100
"""Two experiments, hence two plans."""

FRAMES_PER_EXPERIMENT = 50
"""Frames that share centre and mask. Half the simulator's default: twice the geometries to learn from, at the price
of twice the plans."""


ORIGIN_KEY = "origin"
"""Metadata of a shard file, by which shards of other settings are told."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Labelled frames, ready for the networks."""

    images: Tensor
    """(N, 128, 128) float16, halved views, 0..255."""
    masks: Tensor
    """(N, 128, 128) bool, True = valid."""
    coefficients: Tensor
    """(N, n_radial, n_orders) complex64."""
    labels: Tensor
    """(N, 10) bool, in the order of `LABELS`."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class GeometryViews:
    """Views of frames that share a geometry, and the plan that estimates their coefficients."""

    members: list[SimulatedFrame]
    """The frames."""
    images: Tensor
    """(B, 256, 256) float32 views."""
    mask: NDArray[np.bool_]
    """(256, 256), True = valid in all of them."""
    plan: FourierBessel


def views_by_geometry(
    frames: Iterable[SimulatedFrame], settings: FourierBesselSettings
) -> Iterator[GeometryViews]:
    """Yield views and plan of each geometry; frames of one geometry should be neighbours.

    Where no annotator would take a frame (nothing valid, beam too far off), its geometry's frames are left out.
    """
    for geometry, group in itertools.groupby(frames, key=lambda frame: frame.geometry):
        members = list(group)
        try:
            plan = ViewPlan(geometry)
            views = [plan.view(frame.pixels) for frame in members]
            # Dead pixels and overflows may differ between views; the estimate takes those valid in all.
            common = np.logical_and.reduce([view.mask for view in views])
            fourier_bessel = FourierBessel.from_settings(
                settings,
                shape=(plan.size, plan.size),
                center_x=plan.center_x,
                center_y=plan.center_y,
                mask=common,
            )
        except (FrameError, GeometryError):
            continue
        images = torch.from_numpy(np.stack([view.image for view in views]))
        yield GeometryViews(members, images, common, fourier_bessel)


def encode(frames: Iterable[SimulatedFrame], settings: FourierBesselSettings) -> Examples:
    """Return what the networks are shown of labelled frames, as `views_by_geometry` makes views of them."""
    parts: list[Examples] = []
    for views in views_by_geometry(frames, settings):
        masks = torch.from_numpy(views.mask).expand(len(views.images), -1, -1)
        halved, halved_masks = halve(views.images, masks)
        labels = torch.tensor([[label in frame.labels for label in LABELS] for frame in views.members])
        parts.append(Examples(halved.half(), halved_masks, views.plan.estimate(views.images), labels))
    return concatenate(parts)


def concatenate(parts: Sequence[Examples]) -> Examples:
    """Return all examples as one."""
    return Examples(
        torch.cat([part.images for part in parts]),
        torch.cat([part.masks for part in parts]),
        torch.cat([part.coefficients for part in parts]),
        torch.cat([part.labels for part in parts]),
    )


def build(
    folder: Path,
    *,
    seed: int,
    count: int,
    settings: FourierBesselSettings,
    processes: int = 1,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Examples:
    """Return `count` simulated frames of `seed`, simulating only the shards that `folder` does not have yet.

    Parameters
    ----------
    folder
        Where shards are kept; one folder a seed and settings.
    seed
        Of the simulator.
    count
        Frames, at least 1, rounded up to whole shards.
    settings
        Of the Fourier-Bessel estimate.
    processes
        Simulating at a time.
    report
        Called with shards done and shards in all.

    Raises
    ------
    SettingsError
        When `count` is below 1, or `folder` holds shards of another seed or other settings, or damaged ones.
    """
    if count < 1:
        raise SettingsError(f"at least 1 frame must be simulated, not {count}")
    folder.mkdir(parents=True, exist_ok=True)
    shards = [folder / f"{index:05d}.safetensors" for index in range(-(-count // FRAMES_PER_SHARD))]
    missing = [(path, seed, index, settings) for index, path in enumerate(shards) if not path.exists()]
    done = len(shards) - len(missing)
    report(done, len(shards))
    # Not forked: a forked child of a process that has used torch's threads can hang.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        for finished, _ in enumerate(pool.map(_build_shard, missing), start=1):
            report(done + finished, len(shards))
    return concatenate([_read_shard(path, _origin(seed, settings)) for path in shards])


def _one_thread() -> None:
    torch.set_num_threads(1)


def _build_shard(task: tuple[Path, int, int, FourierBesselSettings]) -> None:
    path, seed, index, settings = task
    simulator = Simulator(seed, settings=SimulationSettings(frames_per_experiment=FRAMES_PER_EXPERIMENT))
    first = index * FRAMES_PER_SHARD
    examples = encode((simulator.frame(first + i) for i in range(FRAMES_PER_SHARD)), settings)
    partial = path.with_suffix(".partial")
    save_file(
        {
            "images": examples.images,
            "masks": torch.from_numpy(np.packbits(examples.masks.numpy(), axis=-1)),
            "coefficients": torch.view_as_real(examples.coefficients),
            "labels": examples.labels,
        },
        partial,
        metadata={ORIGIN_KEY: _origin(seed, settings)},
    )
    partial.rename(path)


def _origin(seed: int, settings: FourierBesselSettings) -> str:
    """Describe what a shard's content follows from, besides its place in the row."""
    return json.dumps(
        {"seed": seed, "frames_per_experiment": FRAMES_PER_EXPERIMENT, "fbt": settings.as_dict()}
    )


def _read_shard(path: Path, origin: str) -> Examples:
    try:
        with safe_open(path, "pt") as file:
            stored = (file.metadata() or {}).get(ORIGIN_KEY)
            if stored != origin:
                raise SettingsError(
                    f"{path} was simulated with {stored}, not with {origin}; choose another folder or delete it"
                )
            tensors = {key: file.get_tensor(key) for key in ("images", "masks", "coefficients", "labels")}
    except SafetensorError as error:
        raise SettingsError(f"{path} is damaged ({error}); delete it, it will be simulated again") from error
    return Examples(
        tensors["images"],
        torch.from_numpy(np.unpackbits(tensors["masks"].numpy(), axis=-1)).bool(),
        torch.view_as_complex(tensors["coefficients"]),
        tensors["labels"],
    )
