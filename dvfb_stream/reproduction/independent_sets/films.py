"""Samples at grazing incidence, by BornAgain; sizes follow from what the detector reaches.

A film is a function (reach, rng) -> BornAgain's sample; lengths in nm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.random import Generator

from dvfb_stream.reproduction.independent_sets.bornagain_package import bornagain

GREY = (0.5, 0.5, 0.5)
"""Of pictures that BornAgain could draw."""
SILICON, GOLD, SILVER, POLYMER = (
    ("silicon", 7.6e-6, 1.7e-7),
    ("gold", 4.7e-5, 4.9e-6),
    ("silver", 3.1e-5, 2.8e-6),
    ("polymer", 3.7e-6, 6.0e-9),
)
"""Name, δ and β of the refractive index 1 - δ + iβ at 1.54 Å (Henke, Gullikson, Davis, Atomic Data and Nuclear Data
Tables 54 (1993) 181); δ goes with the square of the wavelength."""
COPPER_K_ALPHA = 0.154
"""nm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What a detector sees of the exit angles."""

    wavelength: float
    """nm."""
    across: float
    """Largest angle to either side, radians."""
    up: float
    """Largest angle above the horizon, radians."""
    incidence: float
    """Angle of incidence, radians."""

    @property
    def farthest(self) -> float:
        """Largest q along the surface, 1/nm."""
        return 2.0 * math.pi / self.wavelength * math.sin(self.across)

    def length(self, share: float) -> float:
        """Return the distance whose first maximum lies at a share of the way to the side, nm."""
        return 2.0 * math.pi / (share * self.farthest)


def islands(reach: Reach, rng: Generator) -> Any:
    """Return islands of metal that keep their distance, or none, on a substrate."""
    ba = bornagain()
    distance = reach.length(rng.uniform(0.1, 0.5))
    particle = _island(reach, rng, 0.3 * distance)
    if rng.random() < 0.25:
        return _deposited(reach, rng, ba.Dilute2D(0.3 / distance**2, particle))
    arranged = ba.RadialParacrystal(particle, distance, 50.0 * distance)
    arranged.setProbabilityDistribution(ba.Profile1DGauss(rng.uniform(0.08, 0.35) * distance))
    return _deposited(reach, rng, arranged)


def lattice(reach: Reach, rng: Generator) -> Any:
    """Return a lattice of particles on a substrate: rods at the places of its rows."""
    ba = bornagain()
    period = reach.length(rng.uniform(0.1, 0.4))
    turn = rng.uniform(0.0, math.pi / 3.0)
    plane = ba.HexagonalLattice2D(period, turn) if rng.random() < 0.6 else ba.SquareLattice2D(period, turn)
    crystal = ba.Paracrystal2D(
        _island(reach, rng, 0.3 * period), plane, 50.0 * period, 30.0 * period, 30.0 * period
    )
    wide = rng.uniform(0.03, 0.12) * period
    crystal.setProbabilityDistributions(
        ba.Profile2DCauchy(wide, wide, 0.0), ba.Profile2DCauchy(wide, wide, 0.0)
    )
    return _deposited(reach, rng, crystal)


def grating(reach: Reach, rng: Generator) -> Any:
    """Return ridges nearly along the beam: rods at equal distances."""
    ba = bornagain()
    period = reach.length(rng.uniform(0.08, 0.3))
    ridge = ba.Particle(
        _material(reach, POLYMER if rng.random() < 0.5 else SILICON),
        ba.Box(40.0 * period, rng.uniform(0.3, 0.6) * period, rng.uniform(0.5, 2.0) * period),
    )
    chains = ba.Paracrystal1D(ridge, period, math.pi / 2.0, 1.0 / (40.0 * period), 50.0 * period)
    chains.setProbabilityDistribution(ba.Profile1DGauss(rng.uniform(0.02, 0.08) * period))
    return _deposited(reach, rng, chains)


def buried(reach: Reach, rng: Generator) -> Any:
    """Return particles in a film of polymer, whose thickness shows in fringes."""
    ba = bornagain()
    radius = 4.5 / (reach.farthest * rng.uniform(0.15, 0.6))
    filled = ba.Layer(_material(reach, POLYMER), rng.uniform(6.0, 20.0) * radius, _roughness(rng))
    metal = ba.Particle(_material(reach, GOLD if rng.random() < 0.5 else SILVER), ba.Sphere(radius))
    density = rng.uniform(0.01, 0.1) / radius**3
    filled.fill3D(ba.Dilute3D(density, metal))
    return _stack(reach, rng, filled)


def upright_cylinders(reach: Reach, rng: Generator) -> Any:
    """Return a film of block copolymer whose cylinders stand: rods with fringes of the thickness."""
    ba = bornagain()
    period = reach.length(rng.uniform(0.12, 0.4))
    thickness = rng.uniform(1.0, 4.0) * period
    cylinder = ba.Particle(ba.Vacuum(), ba.Cylinder(0.3 * period, thickness))
    arranged = ba.RadialParacrystal(cylinder, period, 50.0 * period)
    arranged.setProbabilityDistribution(ba.Profile1DGauss(rng.uniform(0.06, 0.15) * period))
    film = ba.Layer(_material(reach, POLYMER), thickness, _roughness(rng))
    film.deposit2D(arranged)
    return _stack(reach, rng, film)


def _island(reach: Reach, rng: Generator, half: float) -> Any:
    ba = bornagain()
    height = half * rng.uniform(0.6, 2.5)
    shape = (
        lambda: ba.Cylinder(half, height),
        lambda: ba.Box(2.0 * half, 2.0 * half, height),
        lambda: ba.Prism6(half, height),
        lambda: ba.SphericalSegment(half, 0.0, half * rng.uniform(0.1, 0.9)),
        lambda: ba.Cone(half, 0.6 * half, math.radians(rng.uniform(50.0, 80.0))),
        lambda: ba.Pyramid4(2.0 * half, 0.6 * half, math.radians(rng.uniform(50.0, 80.0))),
    )[int(rng.integers(6))]()
    metals = (GOLD, SILVER, SILICON)
    particle = ba.Particle(_material(reach, metals[int(rng.integers(3))]), shape)
    particle.rotate(ba.RotationZ(rng.uniform(0.0, math.pi)))
    return particle


def _deposited(reach: Reach, rng: Generator, structure: Any) -> Any:
    ba = bornagain()
    above = ba.Layer(ba.Vacuum())
    above.deposit2D(structure)
    sample = ba.Sample()
    sample.addLayer(above)
    sample.addLayer(ba.Layer(_material(reach, SILICON), _roughness(rng)))
    return sample


def _stack(reach: Reach, rng: Generator, film: Any) -> Any:
    ba = bornagain()
    sample = ba.Sample()
    for layer in (ba.Layer(ba.Vacuum()), film, ba.Layer(_material(reach, SILICON), _roughness(rng))):
        sample.addLayer(layer)
    return sample


def _roughness(rng: Generator) -> Any:
    """Return a surface that is rough by some tenths of a nanometre, of which a Yoneda line comes."""
    ba = bornagain()
    height = ba.SelfAffineFractalModel(rng.uniform(0.2, 1.0), rng.uniform(0.3, 0.9), rng.uniform(10.0, 50.0))
    return ba.Roughness(height, ba.ErfTransient())


def _material(reach: Reach, of: tuple[str, float, float]) -> Any:
    name, delta, beta = of
    share = reach.wavelength / COPPER_K_ALPHA
    return bornagain().RefractiveMaterial(name, GREY, delta * share**2, beta * share**3)


FILMS: dict[str, Callable[[Reach, Generator], Any]] = {
    "islands": islands,
    "lattice": lattice,
    "grating": grating,
    "buried particles": buried,
    "upright cylinders": upright_cylinders,
}
