"""The ten labels of the paper, in the one order that every array, table and document uses."""

from __future__ import annotations

from collections.abc import Iterable

LABELS: tuple[str, ...] = (
    "diffuse_low_q",
    "diffuse_high_q",
    "halo",
    "higher_orders",
    "rings",
    "symmetry_halo",
    "symmetry_rings",
    "two_fold",
    "four_fold",
    "six_fold",
)

TITLES: dict[str, str] = {
    "diffuse_low_q": "Diffuse low-q",
    "diffuse_high_q": "Diffuse high-q",
    "halo": "Halo",
    "higher_orders": "Higher orders",
    "rings": "Rings",
    "symmetry_halo": "Symmetry halo",
    "symmetry_rings": "Symmetry rings",
    "two_fold": "2-fold symmetry",
    "four_fold": "4-fold symmetry",
    "six_fold": "6-fold symmetry",
}
"""What people read in tables and figures."""

IMPLICATIONS: dict[str, str] = {"symmetry_halo": "halo", "symmetry_rings": "rings"}
"""A frame with the first label has the second by definition: an anisotropic halo is a halo."""


def close_under_implication(labels: Iterable[str]) -> tuple[str, ...]:
    """Return `labels` with all that they imply, in the order of `LABELS`.

    Raises
    ------
    KeyError
        When a label is not one of `LABELS`.
    """
    accepted = set(labels)
    unknown = accepted.difference(LABELS)
    if unknown:
        raise KeyError(f"unknown labels {sorted(unknown)}; the labels are {', '.join(LABELS)}")
    accepted.update(IMPLICATIONS[label] for label in tuple(accepted) if label in IMPLICATIONS)
    return tuple(label for label in LABELS if label in accepted)
