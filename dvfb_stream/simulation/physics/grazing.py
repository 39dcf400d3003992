"""Grazing incidence: the sample's horizon and what its surface lets through above it.

The beam meets a flat surface at a small angle. Nothing scatters below the surface's horizon (an opaque substrate),
and waves that leave at the critical angle of total reflection are enhanced: the Yoneda wing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dvfb_stream.simulation.physics.parameters import Parameter, like


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
