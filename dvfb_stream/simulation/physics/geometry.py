"""A flat detector, tilted or not: at which angle and how much each pixel sees; a flat sample at grazing incidence.

Laboratory axes: x to the right and y down as on an untilted detector, z along the beam, the sample at 0.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from dvfb_stream.simulation.physics import Parameter, like


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorPose:
    """Where a flat detector stands and how it is tilted about the point where the direct beam hits it.

    The methods take pixel indices `x` and `y`, tensors that broadcast against each other, pixel centres at
    integers, and return tensors of their type.

    Notes
    -----
    pyFAI describes the same detector by the foot of the perpendicular from the sample (poni1, poni2) and its
    length (dist). With its `rot1` and `rot2`, `rot3` = 0,

        distance = dist / (cos rot1 cos rot2),
        beam1 = poni1 + dist tan rot2 / cos rot1,  beam2 = poni2 - dist tan rot1,

    beam1 and beam2 in metres from the corner of the first pixel, so half a pixel more than `center_y` and
    `center_x` (Kieffer and Karkoulis, J. Phys. Conf. Ser. 425 (2013) 202012, and pyFAI's documentation).
    """

    center_x: float
    """Direct beam on the detector, pixels, x to the right; may lie off the image."""
    center_y: float
    """Direct beam on the detector, pixels, y down."""
    distance_mm: float
    """From the sample to the direct beam's point on the detector, along the beam."""
    pixel_mm: tuple[float, float]
    """Height and width of a pixel."""
    rot1: float = 0.0
    """Tilt about the vertical axis, radians; above 0 the right side comes nearer to the sample."""
    rot2: float = 0.0
    """Tilt about the horizontal axis, radians; above 0 the lower side goes farther from the sample."""

    def two_theta(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the scattering angle 2θ, radians."""
        right, down, along = self._positions(x, y)
        return torch.atan2(torch.hypot(right, down), along)

    def azimuth(self, x: Tensor, y: Tensor) -> Tensor:
        """Return χ, radians in (-π, π], in the plane across the beam: from the right towards down.

        On an untilted detector of square pixels this is atan2(y - center_y, x - center_x).
        """
        right, down, _ = self._positions(x, y)
        return torch.atan2(down, right)

    def solid_angle(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the solid angle of each pixel relative to that of a pixel where the direct beam hits.

        A pixel of area A at the distance r covers A cos(incidence) / r² = A h / r³, with h the distance from the
        sample to the detector's plane, which is the same for all; so this is (distance / r)³. Without tilt it is
        cos³ 2θ. pyFAI's array is relative to the foot of the perpendicular: (cos rot1 cos rot2)³ times this.
        """
        right, down, along = self._positions(x, y)
        return (self.distance_mm**2 / (right**2 + down**2 + along**2)) ** 1.5

    def polarisation(self, x: Tensor, y: Tensor, factor: Parameter) -> Tensor:
        """Return the share of the intensity that the beam's polarisation leaves, 1 at the direct beam.

        P = (1 + cos² 2θ - f cos(2χ) sin² 2θ) / 2 with f = (I_h - I_v) / (I_h + I_v): 1 for a beam polarised
        horizontally (no scattering at 2θ = 90° to the left and right), 0 unpolarised, -1 vertically. Kahn et
        al., J. Appl. Cryst. 15 (1982) 330.
        """
        right, down, along = self._positions(x, y)
        # sin² 2θ cos² χ and sin² 2θ sin² χ are the squared direction cosines.
        square = right**2 + down**2 + along**2
        return 1.0 - 0.5 * ((1.0 + factor) * right**2 + (1.0 - factor) * down**2) / square

    def _positions(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return where pixels lie in the laboratory, mm: right, down, along the beam."""
        down = (y - self.center_y) * self.pixel_mm[0]
        right = (x - self.center_x) * self.pixel_mm[1]
        cos1, sin1 = math.cos(self.rot1), math.sin(self.rot1)
        cos2, sin2 = math.cos(self.rot2), math.sin(self.rot2)
        # pyFAI's R2 · R1 about the direct beam's point.
        return (
            right * cos1,
            down * cos2 + right * (sin1 * sin2),
            self.distance_mm + down * sin2 - right * (cos2 * sin1),
        )


def q_of(two_theta: Tensor, wavelength: Parameter) -> Tensor:
    """Return the scattering vector's length, 4π sin(θ) / λ, in 1/Å for a wavelength in Å."""
    return (4.0 * math.pi / wavelength) * torch.sin(0.5 * two_theta)


def two_theta_of(q: Tensor, wavelength: Parameter) -> Tensor:
    """Return the scattering angle 2θ (radians) of a scattering vector, the inverse of `q_of`.

    Not a number beyond 4π / λ, where nothing scatters.
    """
    return 2.0 * torch.asin(q * wavelength / (4.0 * math.pi))


@dataclass(frozen=True, slots=True, kw_only=True)
class GrazingIncidence:
    """A flat sample that the beam hits at a small angle; angles in radians."""

    incidence: float
    """Between beam and surface."""
    critical: float
    """Critical angle of total reflection, where the Yoneda line lies above the horizon."""
    absorption: float
    """β of the refractive index."""
    normal: float
    """Azimuth of the surface's normal on the detector; -π/2 is up."""

    def transmission(self, two_theta: Tensor, azimuth: Tensor) -> Tensor:
        """Return what the sample lets out towards a pixel: nothing below its horizon, most on the Yoneda line."""
        angle = exit_angle(two_theta, azimuth, incidence=self.incidence, normal=self.normal)
        return transmission(angle, critical_angle=self.critical, absorption=self.absorption)

    def described(self) -> dict[str, float]:
        """Return the parameters, JSON-ready."""
        return asdict(self)


def exit_angle(two_theta: Tensor, azimuth: Tensor, *, incidence: Parameter, normal: Parameter) -> Tensor:
    """Return the angle α_f between the scattered wave and the surface, radians, negative below the horizon.

    sin α_f = cos α_i sin 2θ cos(χ - χn) - sin α_i cos 2θ, the component of the scattered direction along the
    surface's normal, which leans towards the source by α_i. The direct beam is at -α_i, the horizon above it at
    2θ = α_i and the specular reflection at 2θ = 2 α_i.

    Parameters
    ----------
    two_theta, azimuth
        2θ and χ of each pixel, radians.
    incidence
        α_i between the direct beam and the surface, radians.
    normal
        χn, the azimuth of the surface's normal on the detector, radians; -π/2 is up.
    """
    angle = like(incidence, two_theta)
    sine = torch.cos(angle) * torch.sin(two_theta) * torch.cos(azimuth - normal)
    return torch.asin((sine - torch.sin(angle) * torch.cos(two_theta)).clamp(-1.0, 1.0))


def transmission(exit_angle: Tensor, *, critical_angle: Parameter, absorption: Parameter) -> Tensor:
    """Return |t|², the intensity that a surface lets out at an angle, relative to no surface; 0 below the horizon.

    The Fresnel coefficient of a wave that enters at α_f, by which reciprocity says how much leaves (Vineyard,
    Phys. Rev. B 26 (1982) 4146; Sinha, Sirota, Garoff and Stanley, Phys. Rev. B 38 (1988) 2297):

        t = 2 s / (s + √(s² - sin² α_c + 2iβ)),  s = sin α_f.

    It is 1 far above the critical angle and peaks at it, at 4 without absorption: the Yoneda wing (Yoneda, Phys.
    Rev. 131 (1963) 2010). The same holds of the incident wave, with α_i for α_f.

    Parameters
    ----------
    exit_angle
        α_f, radians.
    critical_angle
        α_c of total reflection, √(2δ) for the refractive index 1 - δ + iβ, radians.
    absorption
        β.
    """
    s = torch.sin(exit_angle).clamp(min=0.0)
    critical = torch.sin(like(critical_angle, s))
    inside = torch.sqrt((s - critical) * (s + critical) + 2j * like(absorption, s))
    return torch.where(s > 0.0, 4.0 * s**2 / (s + inside).abs() ** 2, 0.0)
