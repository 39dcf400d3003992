"""From what is visible of a frame to its labels, the ten and finer ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from dvfb_stream.labels import close_under_implication
from dvfb_stream.reproduction.independent_sets.component import Component
from dvfb_stream.reproduction.independent_sets.setup import Setup
from dvfb_stream.reproduction.independent_sets.visibility import (
    DISTINCT,
    Counts,
    Feature,
    features,
    visible_order,
)

TEN = {"low_q": "diffuse_low_q", "high_q": "diffuse_high_q", "halo": "halo", "ring": "rings"}
BY_DIFFUSE, BY_CONTRAST = "diffuse", "contrast"
FOLDS = {2: "two_fold", 4: "four_fold", 6: "six_fold"}
MANY = 5
"""Rings of one structure."""

Structure = Sequence[Feature]
"""All that is visible of one component."""


def _shows(test: Callable[[Feature], bool]) -> Callable[[Structure], bool]:
    return lambda structure: any(test(feature) for feature in structure)


def _isotropic(shape: str) -> Callable[[Structure], bool]:
    """Of a structure of which no part has a direction: a weak ring of an oriented one is not meant."""
    return lambda structure: (
        any(feature.shape == shape for feature in structure)
        and not any(feature.anisotropic for feature in structure)
    )


FINE: dict[str, Callable[[Structure], bool]] = {
    "ring_isotropic": _isotropic("ring"),
    "ring_spotted": _shows(lambda f: f.shape == "ring" and f.grains),
    "ring_arcs": _shows(lambda f: f.shape == "ring" and f.arcs and not f.grains),
    "many_rings": lambda structure: sum(f.shape == "ring" for f in structure) >= MANY,
    "halo_isotropic": _isotropic("halo"),
    "low_q_anisotropic": _shows(lambda f: f.shape == "low_q" and f.anisotropic),
    "form_factor": _shows(lambda f: f.shape == "ring" and f.kind == "form_factor"),
    "lattice": _shows(lambda f: f.shape == "ring" and f.kind == "lattice"),
    "lamellar": _shows(lambda f: f.shape == "ring" and f.kind == "lamellar"),
    "powder": _shows(lambda f: f.shape == "ring" and f.kind == "powder"),
}
"""Finer labels: a frame has one where what is visible of any of its structures says so. The last four name what the
rings are of, which an expert knows from their sequence."""


RING_STYLES: dict[str, Callable[[Feature], bool]] = {
    "rings_isotropic": lambda ring: not ring.anisotropic,
    "rings_oriented": lambda ring: ring.anisotropic and not ring.grains,
    "rings_spotted": lambda ring: ring.anisotropic and ring.grains,
}
"""Of the further labels those that follow from what a visible ring is like."""


def labels_of(
    components: Sequence[Component], setup: Setup, *, speckle_modes: float, fold_rule: str = BY_DIFFUSE
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return which of the ten labels and the ring styles a frame has, and which of all finer ones.

    Parameters
    ----------
    components
        All that is in the frame, tables in expected counts a pixel.
    setup
        Of the frame.
    speckle_modes
        As in `Counts`.
    fold_rule
        ``diffuse``: a structure must be visible for its fold to be; ``contrast``: its variation along the azimuth
        alone must be, as in `SimulationSettings.fold_rule`.
    """
    counts = Counts(setup, components, speckle_modes)
    structures = [features(component, counts) for component in components]
    shown = set()
    for feature in itertools.chain.from_iterable(structures):
        shown.add(TEN[feature.shape])
        if feature.anisotropic and not feature.grains and feature.shape in ("ring", "halo"):
            shown.add("symmetry_halo" if feature.shape == "halo" else "symmetry_rings")
        if feature.order in FOLDS:
            shown.add(FOLDS[feature.order])
        if feature.shape == "ring":
            shown.update(style for style, rule in RING_STYLES.items() if rule(feature))
    if fold_rule == BY_CONTRAST:
        orders = {visible_order(component, counts) for component in components}
        shown.update(FOLDS[order] for order in orders if order in FOLDS)
    if any(_higher_orders(structure) for structure in structures):
        shown.add("higher_orders")
    fine = tuple(name for name, rule in FINE.items() if any(rule(structure) for structure in structures))
    return close_under_implication(shown), fine


def _higher_orders(structure: Structure) -> bool:
    rings = sorted((f for f in structure if f.shape == "ring"), key=lambda f: f.q)
    return any(b.q - a.q > DISTINCT * b.width for a, b in itertools.pairwise(rings))
