"""A domain: numbered labelled frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dvfb_stream.errors import SettingsError
from dvfb_stream.frames import Geometry
from dvfb_stream.labels import LABELS
from dvfb_stream.reproduction.independent_sets import experiments
from dvfb_stream.reproduction.independent_sets.labelling import BY_CONTRAST, BY_DIFFUSE, FINE, labels_of
from dvfb_stream.reproduction.independent_sets.mixture import (
    CRYSTALS,
    MIXED,
    PARTICLES,
    SINGLE,
    Mixture,
    counted,
    draw,
)
from dvfb_stream.reproduction.independent_sets.setup import Setup

SINGLE_LABELS = (
    *(label for label in LABELS if label != "diffuse_high_q"), "ring_isotropic", "form_factor", "lattice",
)  # fmt: skip
"""Films scatter little at large angles: no frame of this domain shows diffuse scattering there."""
MIXED_LABELS = (*LABELS, *FINE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IndependentFrame:
    """One labelled frame and what can be seen on it."""

    pixels: NDArray[np.int32]
    """(rows, columns) counts; 0 where the mask says invalid."""
    geometry: Geometry
    """Shape, direct beam and mask."""
    labels: tuple[str, ...]
    """Of the ten `LABELS`, in their order."""
    ring_styles: tuple[str, ...]
    """``rings_isotropic``, ``rings_oriented``, ``rings_spotted``: of the further labels those that are known."""
    fine: tuple[str, ...]
    """Of the finer labels that its domain knows, in the domain's order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """Frames of one kind of experiments, made by `domain`.

    A frame is a function of the seed and its number, for one version of numpy, pyFAI and sasmodels; the last digits
    of what sasmodels computes, and with them a photon here and there, depend on the compiler.
    """

    name: str
    """``single``, ``mixed``, ``diffsims`` or ``bornagain``."""
    seed: int
    labels: tuple[str, ...]
    """Those of the ten `LABELS`, and then those finer ones, that about 100 or more of its first frames have."""
    size: int
    """Frames of the paper's data set in the same role; of one without, as many as are there to test."""
    train: int
    """How many of them, the first, are there to learn from."""
    frames_per_setup: int | None
    """Consecutive frames of one geometry; None: all."""
    mixture: Mixture
    make_setup: Callable[[Generator], Setup]
    fold_rule: str = BY_DIFFUSE
    """What must be visible for a fold: ``diffuse`` or ``contrast``, as in `SimulationSettings.fold_rule`."""

    def frames(self, start: int, stop: int) -> Iterator[IndependentFrame]:
        """Yield frames `start` to `stop` - 1; those of one geometry are neighbours.

        Raises
        ------
        SettingsError
            When `start` is negative, or sasmodels cannot compile its models.
        MissingExtraError
            When a package that computes its frames is not installed.
        """
        if start < 0:
            raise SettingsError(f"frames are numbered from 0, there is no {start}")
        current, setup = -1, None
        for number in range(start, stop):
            wanted = 0 if self.frames_per_setup is None else number // self.frames_per_setup
            if setup is None or wanted != current:
                current, setup = wanted, self.make_setup(np.random.default_rng([self.seed, 0, wanted]))
            yield self._frame(setup, np.random.default_rng([self.seed, 1, number]))

    def _frame(self, setup: Setup, rng: Generator) -> IndependentFrame:
        scene = draw(self.mixture, setup, rng)
        shown, fine = labels_of(
            scene.components, setup, speckle_modes=scene.speckle_modes, fold_rule=self.fold_rule
        )
        return IndependentFrame(
            pixels=counted(scene, setup, rng),
            geometry=setup.geometry,
            labels=tuple(label for label in shown if label in LABELS),
            ring_styles=tuple(label for label in shown if label not in LABELS),
            fine=tuple(label for label in self.labels if label in fine),
        )


def domain(name: str, *, seed: int, fold_rule: str = BY_DIFFUSE) -> Domain:
    """Return the domain ``single``, ``mixed``, ``diffsims`` or ``bornagain``.

    Parameters
    ----------
    name
        ``single``: one set-up and one family of samples, 2,000 frames to train with and 429 to test, 12 labels.
        ``mixed``: another detector, beam centre and mask every 50 frames, all samples, 2,300 and 418, 20 labels.
        ``diffsims``, ``bornagain``: set-ups as of ``mixed``, another every 10 frames; crystals by diffsims, particles
        by BornAgain. There is nothing to train with, and the labels are the ten.
    seed
        Of everything drawn; a whole number from 0.
    fold_rule
        ``diffuse``: folds as the tables of the paper's reproduction have them; ``contrast``: as docs/labels.md judges
        them now.

    Raises
    ------
    SettingsError
        When there is no such domain or rule, or the seed is negative.
    """
    if fold_rule not in (BY_DIFFUSE, BY_CONTRAST):
        raise SettingsError(f"folds are judged by {BY_DIFFUSE!r} or {BY_CONTRAST!r}, not by {fold_rule!r}")
    if seed < 0:
        raise SettingsError(f"a seed is a whole number from 0, not {seed}")
    if name not in _DOMAINS:
        raise SettingsError(f"there is no domain {name!r}; there are {', '.join(_DOMAINS)}")
    return replace(_DOMAINS[name], seed=seed, fold_rule=fold_rule)


_MIXED = Domain(
    name="mixed",
    seed=0,
    labels=MIXED_LABELS,
    size=2718,
    train=2300,
    frames_per_setup=50,
    mixture=MIXED,
    make_setup=experiments.mixed,
)
_FOREIGN = replace(_MIXED, labels=LABELS, size=500, train=0, frames_per_setup=10)
_DOMAINS = {
    "single": Domain(
        name="single",
        seed=0,
        labels=SINGLE_LABELS,
        size=2429,
        train=2000,
        frames_per_setup=None,
        mixture=SINGLE,
        make_setup=experiments.single,
    ),
    "mixed": _MIXED,
    "diffsims": replace(_FOREIGN, name="diffsims", mixture=CRYSTALS),
    "bornagain": replace(_FOREIGN, name="bornagain", mixture=PARTICLES),
}
