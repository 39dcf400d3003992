"""What a model says of frames whose labels people agreed on, and how often it is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import SettingsError
from dvfb_stream.labels import ALL_LABELS, LABELS
from dvfb_stream.training.real_frames.setups import DRAWS, SEED, mean_known, setup_weights, with_interval
from dvfb_stream.training.real_frames.weighted_scores import (
    Weights,
    average_precision,
    calibration_error,
    ratio,
    roc_area,
    weighted_share,
)

NO_FOLD = ("two_fold", "four_fold")
"""Labels that a grazing frame rarely has, and that its horizon, rod and streaks feign."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgedFrames:
    """N frames, what is known of them, and what a model says of K labels.

    Raises
    ------
    SettingsError
        When the arrays have not these shapes, or a label is both accepted and doubtful.
    """

    setups: tuple[str, ...]
    """Set-up of each frame."""
    known: NDArray[np.bool_]
    """(N, K): whether people agreed that the frame has the label, or that it has not."""
    truth: NDArray[np.bool_]
    """(N, K): whether it has; of no meaning where that is not known."""
    scores: NDArray[np.float64]
    """(N, K): probabilities."""
    accepted: NDArray[np.bool_]
    """(N, K): whether the model gives the frame the label."""
    doubtful: NDArray[np.bool_] | None = None
    """(N, K): whether it neither accepts nor rejects it; None: it decides all."""
    warnings: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """(N,) each, by name: what is to be high where a label is wrong."""
    grazing: NDArray[np.bool_] | None = None
    """(N,): whether it is known that it was taken at grazing incidence; None: of none."""
    labels: tuple[str, ...] = LABELS
    """The K labels: the ten, and after them such further ones as are measured."""

    def __post_init__(self) -> None:
        shape = (len(self.setups), len(self.labels))
        if self.doubtful is None:
            object.__setattr__(self, "doubtful", np.zeros(shape, bool))
        for name in ("known", "truth", "scores", "accepted", "doubtful"):
            found = getattr(self, name).shape
            if found != shape:
                raise SettingsError(f"{name} has shape {found}, not (frames, labels) = {shape}")
        both = np.argwhere(self.accepted & self.undecided)
        if len(both):
            frame, k = both[0]
            raise SettingsError(
                f"{self.labels[k]} of frame {frame} is both accepted and doubtful; a doubtful label is not accepted"
            )

    @property
    def undecided(self) -> NDArray[np.bool_]:
        """(N, K): where a label is doubtful."""
        return np.zeros(self.known.shape, bool) if self.doubtful is None else self.doubtful

    def of(self, frames: NDArray[Any]) -> JudgedFrames:
        """Return some of the frames, by a boolean array (N,) or indices."""
        return JudgedFrames(
            setups=tuple(np.asarray(self.setups, dtype=object)[frames]),
            known=self.known[frames],
            truth=self.truth[frames],
            scores=self.scores[frames],
            accepted=self.accepted[frames],
            doubtful=self.undecided[frames],
            warnings={name: values[frames] for name, values in self.warnings.items()},
            grazing=None if self.grazing is None else self.grazing[frames],
            labels=self.labels,
        )


def judged_frames(entries: Sequence[Mapping[str, Any]]) -> JudgedFrames:
    """Return judged frames from what results of ``dvfb evaluate --real`` have under ``judged``.

    Parameters
    ----------
    entries
        Of each frame ``setup``, known ``truth`` and ``scores`` by label, accepted ``labels``, ``doubtful`` ones,
        ``novelty`` and ``fit_residual``.

    Notes
    -----
    Further labels are measured where the model knows them and they are known of any frame. The warning
    ``doubtful_or_novel`` is the larger of the share of the ten labels that are doubtful and novelty, both 0 to 1:
    many doubts or an unfamiliar frame, either is a warning.
    """
    labels = tuple(
        label
        for label in ALL_LABELS
        if label in LABELS
        or (
            all(label in entry["scores"] for entry in entries)
            and any(label in entry["truth"] for entry in entries)
        )
    )

    def where(key: str) -> NDArray[np.bool_]:
        return np.array([[label in entry.get(key, ()) for label in labels] for entry in entries], bool)

    warnings = {
        name: np.array([_number(entry.get(name)) for entry in entries])
        for name in ("novelty", "fit_residual")
    }
    doubtful = where("doubtful")
    share = doubtful[:, : len(LABELS)].mean(axis=1)
    return JudgedFrames(
        setups=tuple(str(entry["setup"]) for entry in entries),
        known=where("truth"),
        truth=np.array([[bool(entry["truth"].get(label)) for label in labels] for entry in entries]),
        scores=np.array([[float(entry["scores"][label]) for label in labels] for entry in entries]),
        accepted=where("labels"),
        doubtful=doubtful,
        grazing=np.array([entry["truth"].get("grazing") is True for entry in entries]),
        warnings={
            **warnings,
            "doubtful_or_novel": np.maximum(share, np.nan_to_num(warnings["novelty"], nan=1.0)),
        },
        labels=labels,
    )


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def measure(frames: JudgedFrames, *, draws: int = DRAWS, seed: int = SEED) -> dict[str, Any]:
    """Return how often the labels are right, each frame weighed by one over the frames of its set-up.

    A doubtful label is not accepted: where a frame has it, it is missed. What is over all labels is over the ten.

    Parameters
    ----------
    frames
        Frames, what is known and what a model says.
    draws
        Of the bootstrap over set-ups; 0 for the values alone, in a millisecond.
    seed
        Of the draws.

    Returns
    -------
    dict
        JSON-ready. A *statistic* is ``{"value", "interval"}``, with a 95 % bootstrap interval over set-ups.

        ``all_right``: share of frames whose known labels are all accepted or rejected rightly.
        ``coverage``: share of known labels that are decided, not doubtful. ``all_right_decided``: share of frames
        whose known labels are all right as far as they are decided.
        ``mean_average_precision``: over labels of which some frames have them and some have not; a draw that lacks
        either for a label leaves it out.
        ``precision``, ``recall``: of accepted labels, over all labels together.
        ``expected_calibration_error``: over all labels together.
        ``finds_wrong_frames``: by warning, the area under its ROC curve ``against_any`` (frames with a known label
        that is not as it should be) and ``against_accepted`` (frames with a wrong accepted label).
        ``labels``: of each how many frames have it and have it not, how many of its acceptances are ``right`` and
        ``wrong``, how many were ``missed``, of how many known ones it is ``doubtful``, all counted in frames; and the
        statistics ``average_precision``, ``roc_area`` and ``expected_calibration_error``.
        ``grazing_frames``: of how many ``frames`` it is known that they were taken at grazing incidence, and of each
        of `NO_FOLD` the statistic of the share that is given it, of those that are known not to have it.
        ``setups``: of each ``frames``, the shares ``all_right``, ``all_right_decided`` and ``coverage``, and how many
        labels are ``right``, ``wrong`` and ``missed``.
    """
    weights = setup_weights(frames.setups, draws=draws, seed=seed)
    labels = {label: _label(frames, k, weights) for k, label in enumerate(frames.labels)}
    precisions = {label: found.pop("average_precisions") for label, found in labels.items()}
    ten = _Ten(frames)
    hits = weights @ ten.hits.sum(axis=1)
    flat = np.repeat(weights, len(LABELS), axis=1)[:, ten.known.ravel()]
    n_known = weights @ ten.known.sum(axis=1)
    return {
        "frames": len(frames.setups),
        "draws": draws,
        "all_right": with_interval(weighted_share(ten.right, weights)),
        "coverage": with_interval(ratio(weights @ ten.decided.sum(axis=1), n_known)),
        "all_right_decided": with_interval(weighted_share(ten.right_decided, weights)),
        "mean_average_precision": with_interval(
            mean_known(np.stack([precisions[label] for label in LABELS]))
        ),
        "precision": with_interval(ratio(hits, weights @ (ten.accepted & ten.known).sum(axis=1))),
        "recall": with_interval(ratio(hits, weights @ ten.has.sum(axis=1))),
        "expected_calibration_error": with_interval(
            calibration_error(ten.scores[ten.known], ten.has[ten.known], flat)
        ),
        "finds_wrong_frames": {
            name: {
                "against_any": with_interval(roc_area(values, ~ten.right, weights)),
                "against_accepted": with_interval(
                    roc_area(values, (ten.wrong & ten.accepted).any(axis=1), weights)
                ),
            }
            for name, values in frames.warnings.items()
        },
        "labels": labels,
        "grazing_frames": _grazing(frames, weights),
        "setups": _setups(frames.setups, ten),
    }


class _Ten:
    """What became of the ten labels, (N, 10) each, and of frames, (N,) each."""

    def __init__(self, frames: JudgedFrames) -> None:
        n = len(LABELS)
        self.known, self.accepted = frames.known[:, :n], frames.accepted[:, :n]
        self.scores = frames.scores[:, :n]
        self.has = self.known & frames.truth[:, :n]
        self.hits = self.accepted & self.has
        self.missed = self.has & ~self.accepted
        self.wrong = self.known & (self.accepted != frames.truth[:, :n])
        self.decided = self.known & ~frames.undecided[:, :n]
        self.right = ~self.wrong.any(axis=1)
        self.right_decided = ~(self.wrong & self.decided).any(axis=1)


def _label(frames: JudgedFrames, k: int, weights: Weights) -> dict[str, Any]:
    known = frames.known[:, k]
    truth, accepted = frames.truth[known, k], frames.accepted[known, k]
    scores, weights = frames.scores[known, k], weights[:, known]
    if not known.any():
        nothing = np.full(len(weights), np.nan)
        ranked, area, error = nothing, nothing, nothing
    else:
        ranked = average_precision(scores, truth, weights)
        area = roc_area(scores, truth, weights)
        error = calibration_error(scores, truth, weights)
    return {
        "have_it": int(truth.sum()),
        "have_it_not": int((~truth).sum()),
        "right": int((accepted & truth).sum()),
        "wrong": int((accepted & ~truth).sum()),
        "missed": int((~accepted & truth).sum()),
        "doubtful": int(frames.undecided[known, k].sum()),
        "average_precision": with_interval(ranked),
        "roc_area": with_interval(area),
        "expected_calibration_error": with_interval(error),
        "average_precisions": ranked,
    }


def _grazing(frames: JudgedFrames, weights: Weights) -> dict[str, Any]:
    grazing = np.zeros(len(frames.setups), bool) if frames.grazing is None else frames.grazing
    found: dict[str, Any] = {"frames": int(grazing.sum())}
    for label in NO_FOLD:
        k = frames.labels.index(label)
        without = grazing & frames.known[:, k] & ~frames.truth[:, k]
        found[label] = with_interval(weighted_share(frames.accepted[without, k], weights[:, without]))
    return found


def _setups(setups: tuple[str, ...], ten: _Ten) -> dict[str, dict[str, float]]:
    found = {}
    for setup in dict.fromkeys(setups):
        own = np.asarray(setups) == setup
        n_known = int(ten.known[own].sum())
        found[setup] = {
            "frames": int(own.sum()),
            "all_right": float(ten.right[own].mean()),
            "all_right_decided": float(ten.right_decided[own].mean()),
            "coverage": float(ten.decided[own].sum() / n_known) if n_known else 1.0,
            "right": int(ten.hits[own].sum()),
            "wrong": int((ten.wrong & ten.accepted)[own].sum()),
            "missed": int(ten.missed[own].sum()),
        }
    return found
