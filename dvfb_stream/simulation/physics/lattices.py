"""Lattices: where their reflections lie, and how disorder and the size of their grains change them."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from dvfb_stream.simulation.physics import Number, Parameter

SCHERRER_CONSTANT = 0.9
"""K for the full width at half maximum of grains of about the same extent everywhere (Patterson, 1939)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reflection:
    """One ring of a lattice and the spots that an oriented crystal has on it."""

    ratio: float
    """q of the reflection relative to the first one."""
    multiplicity: int
    """Equivalent reflections that fall on the ring of a powder."""
    angles: tuple[float, ...] = ()
    """Azimuths of the spots of the oriented crystal, modulo 2π / order, radians; empty: out of its plane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lattice:
    """Reflections of a nanoparticle lattice, and the order of its symmetry seen along one axis."""

    name: str
    order: int
    """Spots of one family around the beam, when the crystal is oriented: the k of k-fold."""
    reflections: tuple[Reflection, ...]


def lamellar(count: int = 6) -> Lattice:
    """Stack of layers seen edge on: q ratios 1 : 2 : 3 ..., two-fold."""
    return Lattice(
        name="lamellar",
        order=2,
        reflections=tuple(
            Reflection(ratio=float(n), multiplicity=2, angles=(0.0,)) for n in range(1, count + 1)
        ),
    )


def hexagonal() -> Lattice:
    """Hexagonal packing of cylinders: h² + hk + k² = 1, 3, 4, 7, 9; q ratios 1 : √3 : 2 : √7 : 3, six-fold."""
    vectors = [(h + 0.5 * k, math.sqrt(0.75) * k) for h in range(-4, 5) for k in range(-4, 5) if h or k]
    flat = [(x, y, 0.0) for x, y in vectors]
    return _lattice("hexagonal", order=6, vectors=flat, across=_FRAMES["001"], reach=3.1)


def body_centred_cubic(*, axis: str) -> Lattice:
    """BCC: h + k + l even, so 2, 4, 6, 8, ...; q ratios 1 : √2 : √3 : 2.

    Seen along "001" the reflections hk0 make a four-fold pattern, along "111" a six-fold one.
    """
    vectors = [v for v in _MILLER if sum(v) % 2 == 0]
    return _lattice("bcc", order=_ORDERS[axis], vectors=vectors, across=_FRAMES[axis], reach=2.7)


def face_centred_cubic(*, axis: str) -> Lattice:
    """FCC: h, k, l all even or all odd, so 3, 4, 8, 11, 12, ...; q ratios 1 : √(4/3) : √(8/3) : √(11/3) : 2.

    Seen along "001" the reflections hk0 make a four-fold pattern, along "111" a six-fold one.
    """
    vectors = [v for v in _MILLER if v[0] % 2 == v[1] % 2 == v[2] % 2]
    return _lattice("fcc", order=_ORDERS[axis], vectors=vectors, across=_FRAMES[axis], reach=2.7)


Vector = tuple[float, float, float]

_MILLER: tuple[Vector, ...] = tuple(
    (float(hkl[0]), float(hkl[1]), float(hkl[2]))
    for hkl in itertools.product(range(-5, 6), repeat=3)
    if any(hkl)
)
_FRAMES: dict[str, tuple[Vector, Vector]] = {
    "001": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    "111": (
        (math.sqrt(1 / 2), -math.sqrt(1 / 2), 0.0),
        (math.sqrt(1 / 6), math.sqrt(1 / 6), -math.sqrt(2 / 3)),
    ),
}
"""Two directions that span the plane seen along an axis."""
_ORDERS = {"001": 4, "111": 6}


def _lattice(
    name: str, *, order: int, vectors: Iterable[Vector], across: tuple[Vector, Vector], reach: float
) -> Lattice:
    # Rings and spots are told apart by rounded numbers, but keep their digits.
    rings: dict[float, list[Vector]] = {}
    for vector in vectors:
        rings.setdefault(round(math.hypot(*vector), 6), []).append(vector)
    lengths = [math.hypot(*rings[rounded][0]) for rounded in sorted(rings)]
    return Lattice(
        name=name,
        order=order,
        reflections=tuple(
            Reflection(
                ratio=length / lengths[0],
                multiplicity=len(rings[rounded]),
                angles=_spots(rings[rounded], across=across, period=2.0 * math.pi / order),
            )
            for length, rounded in zip(lengths, sorted(rings), strict=True)
            if length / lengths[0] <= reach
        ),
    )


def _spots(vectors: Iterable[Vector], *, across: tuple[Vector, Vector], period: float) -> tuple[float, ...]:
    """Return the azimuths, modulo a period, of those vectors of one length that lie in a plane."""
    angles: dict[float, float] = {}
    for vector in vectors:
        x, y = (sum(map(operator.mul, vector, direction)) for direction in across)
        if math.hypot(x, y) > (1.0 - 1e-6) * math.hypot(*vector):
            angle = math.atan2(y, x) % period
            angle = 0.0 if period - angle < 1e-6 else angle
            angles.setdefault(round(angle, 6), angle)
    return tuple(angles[rounded] for rounded in sorted(angles))


def debye_waller(q: Tensor, *, displacement: Parameter) -> Tensor:
    """exp(-q² σ²): what random displacements of the particles leave of the intensity of a reflection.

    `displacement` is σ, the root mean square displacement along one direction (along q), in the inverse unit of
    `q`. Displacements u of that size turn the amplitude of a reflection into ⟨exp(i q u)⟩ = exp(-q² σ² / 2) and
    its intensity into the square of that. The displacements in space are √3 σ together.

    Notes
    -----
    This is G(q) of Yager, Zhang, Lu and Gang, J. Appl. Cryst. 47 (2014) 118, where the intensity is
    I = P(q) S(q) with S = 1 + β(q) G(q) (Z0(q) - 1): of what the peaks lose, P β (1 - G) comes back as
    diffuse scattering.
    """
    return torch.exp(-((q * displacement) ** 2))


def scherrer_fwhm(size: Number) -> Number:
    """Full width at half maximum in q, 2π K / L, of a reflection from grains of extent L along it.

    Scherrer, Nachr. Ges. Wiss. Göttingen (1918) 98, has K λ / (L cos θ) as the width in 2θ; with
    q = 4π sin θ / λ it is 2π K / L, at every order. K = 0.9: Patterson, Phys. Rev. 56 (1939) 978. `size` is in
    the inverse unit of the result.
    """
    return 2.0 * math.pi * SCHERRER_CONSTANT / size
