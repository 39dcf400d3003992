"""Whether labels stay the same when a frame changes in ways that change no label; nobody has to label anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.annotations import Annotation
from dvfb_stream.frames import Frame
from dvfb_stream.labels import LABELS
from dvfb_stream.training.real_frames import alterations
from dvfb_stream.training.real_frames.setups import DRAWS, setup_weights, with_interval
from dvfb_stream.training.real_frames.weighted_scores import weighted_share

Alteration = Callable[[Frame, np.random.Generator], Iterator[Frame]]
Annotate = Callable[[Sequence[Frame]], Sequence[Annotation]]

OF_NO_TWIN = frozenset(("symmetry_halo", "symmetry_rings", "two_fold", "four_fold", "six_fold"))
"""Labels that an isotropic frame cannot have."""
ROTATIONS = 3
"""Of each frame, by angles drawn evenly from the whole circle."""
CENTRE_ERROR = 3.0
"""Detector pixels: what centres from a calibrant of another day are off by."""
LARGER = 1.5


def _symmetries(frame: Frame, random: np.random.Generator) -> Iterator[Frame]:
    for mirrored in (False, True):
        for quarters in range(4):
            if mirrored or quarters:
                yield alterations.turned(frame, quarters, mirrored=mirrored)


def _rotations(frame: Frame, random: np.random.Generator) -> Iterator[Frame]:
    for degrees in random.uniform(0, 360, ROTATIONS):
        yield alterations.rotated(frame, float(degrees))


def _centres(frame: Frame, random: np.random.Generator) -> Iterator[Frame]:
    for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        yield alterations.with_centre_off(frame, CENTRE_ERROR * x, CENTRE_ERROR * y)


def _shorter(frame: Frame, random: np.random.Generator) -> Iterator[Frame]:
    yield alterations.exposed(frame, 0.1, random)


def _longer(frame: Frame, random: np.random.Generator) -> Iterator[Frame]:
    yield alterations.exposed(frame, 10, random)


def _beamstop(frame: Frame, random: np.random.Generator) -> Iterator[Frame]:
    altered = alterations.with_beamstop_otherwise(frame)
    if altered is not None:
        yield altered


def _binned(frame: Frame, random: np.random.Generator) -> Iterator[Frame]:
    yield alterations.binned(frame)


def _larger(frame: Frame, random: np.random.Generator) -> Iterator[Frame]:
    yield alterations.on_larger_detector(frame, LARGER)


ALTERATIONS: Mapping[str, Alteration] = {
    "symmetries": _symmetries,
    "rotations": _rotations,
    "centre_off": _centres,
    "counts_tenth": _shorter,
    "counts_tenfold": _longer,
    "beamstop": _beamstop,
    "binned": _binned,
    "larger_detector": _larger,
}
"""What is done to each frame, by name; each yields the altered frames, none where it does not apply."""


def measure_invariance(
    annotate: Annotate,
    frames: Iterable[tuple[str, str, Frame]],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
    failed: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Return how often accepted labels stay the same, and how often an isotropic frame gets a fold or symmetry.

    Parameters
    ----------
    annotate
        The model.
    frames
        Name, set-up and frame of each; taken one at a time.
    draws
        Of the bootstrap over set-ups.
    seed
        Of counting noise and angles.
    advance
        Called when a frame is done.
    failed
        Called with one line for a frame, as it is or altered, that cannot be annotated; it is left out.

    Returns
    -------
    dict
        JSON-ready; a *statistic* is ``{"value", "interval"}``, as of `judged_frames.measure`.

        ``alterations``: by name, of how many ``frames`` it was made, how many altered frames there were
        (``altered``), the statistic ``unchanged``: the share of frames whose labels are the same in all altered
        frames, ``each``: the share of altered frames with the same labels, and in ``labels`` by label the share of
        altered frames in which it changed.
        ``isotropic``: of how many ``frames``, and the statistic ``fold_or_symmetry``, the share with such a label.
        ``outcomes``: of each frame its ``name``, ``setup``, ``labels``, by alteration the labels that ``changed`` in
        each altered frame, and the labels of its isotropic ``twin``.
    """
    outcomes = []
    for number, (name, setup, frame) in enumerate(frames):
        random = np.random.default_rng((seed, number))
        reasons: list[str] = []
        outcome = _outcome(annotate, frame, random, reasons.append)
        for reason in reasons:
            failed(f"{name}: {reason}")
        if outcome is not None:
            outcomes.append({"name": name, "setup": setup, **outcome})
        advance()
    return {
        "frames": len(outcomes),
        "draws": draws,
        "alterations": {name: _share(name, outcomes, draws) for name in ALTERATIONS},
        "isotropic": _isotropic(outcomes, draws),
        "outcomes": outcomes,
    }


def _outcome(
    annotate: Annotate, frame: Frame, random: np.random.Generator, failed: Callable[[str], None]
) -> dict[str, Any] | None:
    frame = alterations.settled(frame)
    before = _labels(annotate, frame, failed)
    if before is None:
        return None
    changed: dict[str, list[list[str]]] = {}
    for name, alter in ALTERATIONS.items():
        after = (_labels(annotate, altered, failed) for altered in alter(frame, random))
        changed[name] = [
            [label for label in LABELS if (label in before) != (label in labels)]
            for labels in after
            if labels is not None
        ]
    twin = _labels(annotate, alterations.isotropic_twin(frame, random), failed)
    return {"labels": list(before), "changed": changed, "twin": None if twin is None else list(twin)}


def _labels(annotate: Annotate, frame: Frame, failed: Callable[[str], None]) -> tuple[str, ...] | None:
    (annotation,) = annotate([frame])
    if annotation.ok:
        return annotation.labels
    failed(annotation.reason)
    return None


def _share(name: str, outcomes: Sequence[Mapping[str, Any]], draws: int) -> dict[str, Any]:
    made = [outcome for outcome in outcomes if outcome["changed"][name]]
    altered = [(outcome["setup"], changed) for outcome in made for changed in outcome["changed"][name]]
    return {
        "frames": len(made),
        "altered": len(altered),
        "unchanged": _statistic(
            [outcome["setup"] for outcome in made],
            [not any(outcome["changed"][name]) for outcome in made],
            draws,
        ),
        "each": _statistic([setup for setup, _ in altered], [not changed for _, changed in altered], draws),
        "labels": {
            label: _statistic(
                [setup for setup, _ in altered], [label in changed for _, changed in altered], draws
            )["value"]
            for label in LABELS
        },
    }


def _isotropic(outcomes: Sequence[Mapping[str, Any]], draws: int) -> dict[str, Any]:
    twins = [outcome for outcome in outcomes if outcome["twin"] is not None]
    return {
        "frames": len(twins),
        "fold_or_symmetry": _statistic(
            [outcome["setup"] for outcome in twins],
            [not OF_NO_TWIN.isdisjoint(outcome["twin"]) for outcome in twins],
            draws,
        ),
    }


def _statistic(setups: Sequence[str], happened: Sequence[bool], draws: int) -> dict[str, Any]:
    """Return a share weighed by set-up, with its interval."""
    if not setups:
        return {"value": None, "interval": None}
    outcomes: NDArray[np.bool_] = np.asarray(happened, dtype=bool)
    return with_interval(weighted_share(outcomes, setup_weights(setups, draws=draws)))
