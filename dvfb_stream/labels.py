"""The ten labels of the paper and the further ones, in the one order that every array, table and document uses."""

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
"""Of the paper; networks with ten outputs know these."""

FURTHER_LABELS: tuple[str, ...] = (
    "grazing",
    "rings_isotropic",
    "rings_oriented",
    "rings_spotted",
    "empty",
    "weak",
    "saturated",
    "misaligned",
)
"""What beamlines ask for besides: grazing incidence, the style of rings, and how good a frame is."""

ALL_LABELS: tuple[str, ...] = (*LABELS, *FURTHER_LABELS)

QUALITY_LABELS = frozenset({"empty", "weak", "saturated", "misaligned"})
"""What is wrong with a frame, rather than what it shows."""

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
    "grazing": "Grazing incidence",
    "rings_isotropic": "Isotropic rings",
    "rings_oriented": "Oriented rings",
    "rings_spotted": "Spotted rings",
    "empty": "Empty",
    "weak": "Weak",
    "saturated": "Saturated",
    "misaligned": "Misaligned",
}
"""What people read in tables and figures."""

DIRECTED: tuple[str, ...] = ("symmetry_halo", "symmetry_rings", "two_fold", "four_fold", "six_fold")
"""What a frame without any direction cannot have."""

IMPLICATIONS: dict[str, str] = {"symmetry_halo": "halo", "symmetry_rings": "rings"}
"""A frame with the first label has the second by definition: an anisotropic halo is a halo."""

FURTHER_IMPLICATIONS: dict[str, str] = {
    "rings_isotropic": "rings",
    "rings_oriented": "rings",
    "rings_spotted": "rings",
}
"""The same of the further labels."""


def close_under_implication(labels: Iterable[str]) -> tuple[str, ...]:
    """Return `labels` with all that they imply, in the order of `ALL_LABELS`.

    Raises
    ------
    KeyError
        When a label is not one of `ALL_LABELS`.
    """
    accepted = _known(labels)
    implied = IMPLICATIONS | FURTHER_IMPLICATIONS
    accepted.update(implied[label] for label in tuple(accepted) if label in implied)
    return tuple(label for label in ALL_LABELS if label in accepted)


def settled(accepted: Iterable[str], doubtful: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the labels of an annotation: those accepted, with all that they imply, and those that remain doubtful.

    No label is in both: what an accepted label implies is accepted, whatever doubt there was. From a doubtful label
    nothing follows. Both are in the order of `ALL_LABELS`.

    Raises
    ------
    KeyError
        When a label is not one of `ALL_LABELS`.
    """
    labels, in_doubt = close_under_implication(accepted), _known(doubtful)
    return labels, tuple(label for label in ALL_LABELS if label in in_doubt and label not in labels)


def _known(labels: Iterable[str]) -> set[str]:
    known = set(labels)
    if unknown := known.difference(ALL_LABELS):
        raise KeyError(f"unknown labels {sorted(unknown)}; the labels are {', '.join(ALL_LABELS)}")
    return known
