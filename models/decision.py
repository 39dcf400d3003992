"""From what a network states and what is measured to labels: accepted, doubtful, or rejected.

Five labels, the folds and the two symmetries, are decided by the contrast that is measured along the azimuth, with
the network as a second opinion. Evidence e is in units of the least contrast that docs/labels.md calls visible, p
what the network states. Their joint probability is P = 1 / (1 + exp(-x)),

    x = measured · ln max(e, LEAST_EVIDENCE) + network · ln(p / (1 - p)) + offset,

the same three numbers for all five labels. Where the rings that can be verified are too few, e is not known, P is the
network's p, and it takes a surer network to accept the label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.labels import ALL_LABELS, DIRECTED, LABELS
from dvfb_stream.models.decision_numbers import Decision, accepted_from

__all__ = [
    "MEASURED_LABELS",
    "NOT_GATED",
    "PLACES",
    "Decided",
    "Decision",
    "accepted_from",
    "decide",
    "joined",
]

MEASURED_LABELS = DIRECTED
"""Decided by what is measured; in the order of `dvfb_stream.azimuthal.evidence.Evidence.labels`."""
PLACES = [LABELS.index(label) for label in MEASURED_LABELS]
EMPTY, GRAZING = ALL_LABELS.index("empty"), ALL_LABELS.index("grazing")
ORIENTED, TEXTURED = ALL_LABELS.index("rings_oriented"), ALL_LABELS.index("symmetry_rings")
LEAST_EVIDENCE = 0.05
"""Below, evidence is none: a twentieth of what the eye sees."""
NOT_GATED = ("empty", "weak", "saturated", "misaligned")
"""What is said of a frame's quality holds however novel it is."""
SHOWN = [k for k, label in enumerate(ALL_LABELS) if label not in NOT_GATED]
"""What an empty frame has not."""
FOLDS = [LABELS.index(label) for label in ("two_fold", "four_fold", "six_fold")]
"""What a frame at grazing incidence has not, by docs/labels.md: it does not repeat around the beam."""
SUREST = 1e-6
"""Nearest to 0 and 1 that a network's probability counts."""


@dataclass(frozen=True, slots=True, eq=False)
class Decided:
    """Of B frames and L labels."""

    scores: NDArray[np.float64]
    """(B, L) probabilities."""
    accepted: NDArray[np.bool_]
    """(B, L)."""
    doubtful: NDArray[np.bool_]
    """(B, L): neither accepted nor rejected."""


def joined(
    stated: NDArray[np.float64],
    evidence: NDArray[np.float64],
    known: NDArray[np.bool_],
    decision: Decision,
) -> NDArray[np.float64]:
    """Return (B, L) probabilities, those of the measured labels by network and measurement together.

    Parameters
    ----------
    stated
        (B, L) of the network, calibrated.
    evidence
        (B, 5) in the order of `MEASURED_LABELS`.
    known
        (B,) whether there is evidence at all.
    decision
        What joins them.
    """
    scores = stated.copy()
    own = stated[:, PLACES].clip(SUREST, 1 - SUREST)
    x = (
        decision.measured * np.log(np.maximum(evidence, LEAST_EVIDENCE))
        + decision.network * np.log(own / (1 - own))
        + decision.offset
    )
    scores[:, PLACES] = np.where(known[:, None], 1 / (1 + np.exp(-x)), stated[:, PLACES])
    return scores


def decide(
    stated: NDArray[np.float64],
    evidence: NDArray[np.float64],
    known: NDArray[np.bool_],
    novelty: NDArray[np.float64],
    thresholds: NDArray[np.float64],
    decision: Decision,
    *,
    adapted: NDArray[np.bool_] | None = None,
) -> Decided:
    """Return what becomes of each label of B frames.

    Parameters
    ----------
    stated, evidence, known
        As of `joined`.
    novelty
        (B,).
    thresholds
        (L,) of the operating point, as of `accepted_from`.
    decision
        Of the bundle.
    adapted
        (L,) labels that a beamline's own head judges: it alone decides them, by its threshold.
    """
    alone = np.zeros(stated.shape[1], dtype=bool) if adapted is None else adapted
    scores = np.where(alone, stated, joined(stated, evidence, known, decision))
    same = (
        scores.shape[1] > ORIENTED and not alone[ORIENTED]
    )  # oriented rings are textured ones, by definition
    if same:
        scores[:, ORIENTED] = scores[:, TEXTURED]
    reached = scores >= thresholds
    contradicted, unknown = np.zeros(scores.shape, dtype=bool), np.zeros(scores.shape, dtype=bool)
    apart = np.abs(stated[:, PLACES] - evidence / (1 + evidence)) > decision.contradiction
    contradicted[:, PLACES] = known[:, None] & apart
    sure = (stated[:, PLACES] >= decision.unverified_from) & (decision.unverified_from < 1)
    unknown[:, PLACES] = ~known[:, None] & ~sure
    gated = np.array([label not in NOT_GATED for label in ALL_LABELS[: scores.shape[1]]])
    novel = (novelty >= decision.novel_from)[:, None] & gated
    contradicted, unknown = contradicted & ~alone, unknown & ~alone
    accepted = reached & ~contradicted & ~unknown & ~novel & ~_excluded(scores, reached)
    doubtful = ~accepted & (reached | contradicted | (scores >= decision.doubtful_from))
    if same:
        for decided in (accepted, doubtful):
            decided[:, ORIENTED] = decided[:, TEXTURED]
    return Decided(scores, accepted, doubtful)


def _excluded(scores: NDArray[np.float64], reached: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which labels, (B, L), are less probable than one that excludes them.

    An empty frame shows nothing, and one at grazing incidence has no fold.
    """
    excluded = np.zeros_like(reached)
    for one, others in ((EMPTY, SHOWN), (GRAZING, FOLDS)):
        if scores.shape[1] <= one:
            continue
        score, there = scores[:, one : one + 1], reached[:, one : one + 1]
        excluded[:, others] |= there & reached[:, others] & (scores[:, others] <= score)
        excluded[:, one] |= (there & reached[:, others] & (scores[:, others] > score)).any(axis=1)
    return excluded
