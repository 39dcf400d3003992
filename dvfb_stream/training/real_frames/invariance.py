"""Whether labels stay the same when a frame changes in ways that change no label; nobody has to label anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.annotations import Annotation
from dvfb_stream.errors import FrameError, GeometryError
from dvfb_stream.frames import Frame
from dvfb_stream.labels import ALL_LABELS, DIRECTED, LABELS
from dvfb_stream.training.real_frames.alterations import isotropic_twin, settle
from dvfb_stream.training.real_frames.setups import DRAWS, setup_weights, with_interval
from dvfb_stream.training.real_frames.ways import ALTERATIONS, THOROUGH, Ways, draws_of
from dvfb_stream.training.real_frames.weighted_scores import weighted_share

_OF_NO_TWIN = frozenset(DIRECTED)
_OF_THE_TEN = frozenset(LABELS)

Annotate = Callable[[Sequence[Frame]], Sequence[Annotation]]


def measure_invariance(
    annotate: Annotate,
    frames: Iterable[tuple[str, str, Frame]],
    *,
    ways: Ways = THOROUGH,
    draws: int = DRAWS,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
    failed: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Return how often accepted labels stay the same, and how often an isotropic frame gets a fold or symmetry.

    The ten labels of `LABELS` are what must stay the same. Of further labels it is told how often they change: some
    of them say how a frame was exposed or mounted.

    Parameters
    ----------
    annotate
        The model.
    frames
        Name, set-up and frame of each; taken one at a time.
    ways
        In how many ways frames are altered.
    draws
        Of the bootstrap over set-ups.
    seed
        Of counting noise, angles and sides.
    advance
        Called when a frame is done.
    failed
        Called with one line for a frame, as it is or altered, that cannot be annotated; it is left out.

    Returns
    -------
    dict
        JSON-ready; a *statistic* is ``{"value", "interval"}``, as of `judged_frames.measure`.

        ``alterations``: by name, of how many ``frames`` it was made, how many altered frames there were
        (``altered``), the statistics ``unchanged``: the share of frames whose labels are the same in all altered
        frames, ``each``: the share of altered frames with the same labels, and ``not_contradicted``: the share of
        those of which no label is accepted on one side and neither accepted nor doubtful on the other; and in
        ``labels`` by label the share of altered frames in which it changed, of further labels as well.
        ``isotropic``: of how many ``frames``, the statistic ``fold_or_symmetry``, the share with such a label, and in
        ``labels`` by label the share that has it.
        ``outcomes``: of each frame its ``name``, ``setup``, ``labels`` and ``doubtful`` labels, by alteration the
        labels that ``changed`` in each altered frame and those that are ``contradicted``, and the labels of its
        isotropic ``twin``.
    """
    outcomes: list[dict[str, Any]] = []
    for number, (name, setup, frame) in enumerate(frames):
        reasons: list[str] = []
        outcome = _outcome(annotate, frame, ways, (seed, number), reasons.append)
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
    annotate: Annotate,
    frame: Frame,
    ways: Ways,
    seed: tuple[int, int],
    failed: Callable[[str], None],
) -> dict[str, Any] | None:
    try:
        settled = settle(frame)
    except (FrameError, GeometryError) as error:
        failed(str(error))
        return None
    drawn = draws_of(settled.frame, *seed)
    before = _annotated(annotate, iter((settled.frame,)), failed)
    if not before:
        return None
    changed: dict[str, list[list[str]]] = {}
    contradicted: dict[str, list[list[str]]] = {}
    for name, alter in ALTERATIONS.items():
        after = _annotated(annotate, alter(settled, ways, drawn), failed)
        changed[name] = [_in_order(set(before[0].labels) ^ set(one.labels)) for one in after]
        contradicted[name] = [_in_order(_contradicted(before[0], one)) for one in after]
    twin = _annotated(annotate, iter((isotropic_twin(settled.frame, drawn.counts),)), failed)
    return {
        "labels": list(before[0].labels),
        "doubtful": list(before[0].doubtful),
        "changed": changed,
        "contradicted": contradicted,
        "twin": list(twin[0].labels) if twin else None,
    }


def _annotated(
    annotate: Annotate, frames: Iterator[Frame], failed: Callable[[str], None]
) -> list[Annotation]:
    """Return the annotations of frames, taken one at a time; those that cannot be made or annotated are told."""
    found: list[Annotation] = []
    try:
        for frame in frames:
            (annotation,) = annotate([frame])
            if annotation.ok:
                found.append(annotation)
            else:
                failed(annotation.reason)
    except GeometryError as error:  # an alteration leaves no valid pixel
        failed(str(error))
    return found


def _contradicted(before: Annotation, after: Annotation) -> set[str]:
    """Return labels accepted on one side, and neither accepted nor doubtful on the other."""
    return (set(before.labels) - {*after.labels, *after.doubtful}) | (
        set(after.labels) - {*before.labels, *before.doubtful}
    )


def _in_order(labels: set[str]) -> list[str]:
    return [label for label in ALL_LABELS if label in labels]


def _share(name: str, outcomes: Sequence[Mapping[str, Any]], draws: int) -> dict[str, Any]:
    made = [outcome for outcome in outcomes if outcome["changed"][name]]
    setups = [outcome["setup"] for outcome in made for _ in outcome["changed"][name]]
    changed, contradicted = (
        [set(labels) for outcome in made for labels in outcome[what][name]]
        for what in ("changed", "contradicted")
    )
    return {
        "frames": len(made),
        "altered": len(changed),
        "unchanged": _statistic(
            [outcome["setup"] for outcome in made],
            [all(_kept(labels) for labels in outcome["changed"][name]) for outcome in made],
            draws,
        ),
        "each": _statistic(setups, [_kept(labels) for labels in changed], draws),
        "not_contradicted": _statistic(setups, [_kept(labels) for labels in contradicted], draws),
        "labels": {
            label: _statistic(setups, [label in labels for labels in changed], draws)["value"]
            for label in _seen(outcomes)
        },
    }


def _kept(changed: Iterable[str]) -> bool:
    return _OF_THE_TEN.isdisjoint(changed)


def _seen(outcomes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the ten labels, and further ones that any frame has or got."""
    further = {
        label
        for outcome in outcomes
        for labels in (outcome["labels"], *(one for way in outcome["changed"].values() for one in way))
        for label in labels
    }
    return [label for label in ALL_LABELS if label in LABELS or label in further]


def _isotropic(outcomes: Sequence[Mapping[str, Any]], draws: int) -> dict[str, Any]:
    twins = [outcome for outcome in outcomes if outcome["twin"] is not None]
    setups = [outcome["setup"] for outcome in twins]
    return {
        "frames": len(twins),
        "fold_or_symmetry": _statistic(
            setups, [not _OF_NO_TWIN.isdisjoint(outcome["twin"]) for outcome in twins], draws
        ),
        "labels": {
            label: _statistic(setups, [label in outcome["twin"] for outcome in twins], draws)["value"]
            for label in DIRECTED
        },
    }


def _statistic(setups: Sequence[str], happened: Sequence[bool], draws: int) -> dict[str, Any]:
    """Return a share weighed by set-up, with its interval."""
    if not setups:
        return {"value": None, "interval": None}
    outcomes: NDArray[np.bool_] = np.asarray(happened, dtype=bool)
    return with_interval(weighted_share(outcomes, setup_weights(setups, draws=draws)))
