"""Particles and lattices beside sasmodels, the models that SasView fits with.

sasmodels compiles its C models when they are first called, so these tests need a C compiler; its kernels in
Python are none of those compared here, and the compiler that it brings along lacks the C library's headers.
"""

import importlib
import math
import os
import shutil

import numpy as np
import pytest
import torch
from scipy.signal import find_peaks

from dvfb_stream.simulation.physics import intensities, lattices

pytest.importorskip("sasmodels", reason="sasmodels is not installed; the extra `test` brings it")

COMPILER = os.environ.get("CC", "cc").split()[0]
pytestmark = [
    pytest.mark.skipif(
        shutil.which(COMPILER) is None, reason=f"sasmodels compiles its models, and there is no {COMPILER}"
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:sasmodels"),
]


@pytest.fixture(scope="module")
def intensity(tmp_path_factory):
    """Return intensity(model, q, ...) or intensity(model, (qx, qy), ...), of a model compiled for these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAS_OPENCL", "none")
        core, kerneldll, direct_model = (
            importlib.import_module(f"sasmodels.{name}") for name in ("core", "kerneldll", "direct_model")
        )
        patch.setattr(kerneldll, "SAS_DLL_PATH", str(tmp_path_factory.mktemp("compiled_models")))
        models = {}

        def evaluate(name, q, **parameters):
            if name not in models:
                models[name] = core.load_model(name, dtype="double!", platform="dll")
            kernel = models[name].make_kernel(list(q) if isinstance(q, tuple) else [q])
            return direct_model.call_kernel(kernel, {"scale": 1.0, "background": 0.0, **parameters})

        yield evaluate


@pytest.mark.parametrize("spread", [0.0, 0.01, 0.05, 0.12])
def test_unequal_spheres_scatter_as_sasmodels_averages_them(intensity, spread):
    # sasmodels divides by the mean volume and multiplies by the contrast; only the shape is compared. Its average
    # is a sum over 2001 radii within 8 standard deviations, weighted by volume² as ours.
    q = np.concatenate(([1e-7], np.geomspace(1e-4, 0.6, 3000)))
    reference = intensity(
        "sphere",
        q,
        radius=80.0,
        radius_pd=spread,
        radius_pd_type="gaussian",
        radius_pd_n=2001 if spread else 1,
        radius_pd_nsigma=8.0,
    )
    found = intensities.polydisperse_sphere(torch.from_numpy(q), radius=80.0, spread=spread).numpy()
    # Equal spheres: zeros to the rounding of sin x - x cos x. Unequal ones: the closed form below x = 0.25 and the
    # reference's series each keep 8 digits.
    np.testing.assert_allclose(found, reference / reference[0], rtol=1e-7, atol=1e-15)


@pytest.mark.parametrize(("polar", "equatorial"), [(200.0, 60.0), (40.0, 150.0)])
def test_a_spheroid_in_the_detector_plane_scatters_as_in_sasmodels(intensity, polar, equatorial):
    q = torch.linspace(1e-4, 0.2, 60, dtype=torch.float64)[:, None]
    azimuth = torch.arange(0.0, 360.0, 5.0, dtype=torch.float64).deg2rad()[None, :]
    qx, qy = ((q * torch.cos(azimuth)).flatten().numpy(), (q * torch.sin(azimuth)).flatten().numpy())
    # theta is the angle of the axis to the beam, phi its azimuth from the x axis of (qx, qy).
    reference = intensity(
        "ellipsoid", (qx, qy), radius_polar=polar, radius_equatorial=equatorial, theta=90.0, phi=25.0
    )
    forward = intensity(
        "ellipsoid",
        (np.array([1e-7]), np.array([0.0])),
        radius_polar=polar,
        radius_equatorial=equatorial,
        theta=90.0,
        phi=25.0,
    )
    # A spheroid is a sphere with q stretched: its contours are ellipses, as those of every stretched law.
    stretched = intensities.stretched(q, azimuth, aspect=equatorial / polar, phase=math.radians(25.0))
    found = intensities.sphere_form_factor(stretched, radius=math.sqrt(polar * equatorial))
    # The same formula in float64; absolute at its zeros.
    np.testing.assert_allclose(found.flatten().numpy(), reference / forward, rtol=1e-8, atol=1e-14)


SMALL = {"radius": 1.0, "sld": 1.0, "sld_solvent": 0.0}
"""Particles so small that their form factor is 1 at every q used here."""
EDGE = 200.0
"""Of the cubic cell, Å."""
CUBIC = {
    "bcc_paracrystal": (lattices.body_centred_cubic, EDGE * math.sqrt(0.75), math.sqrt(2.0)),
    "fcc_paracrystal": (lattices.face_centred_cubic, EDGE * math.sqrt(0.5), math.sqrt(3.0)),
}
"""Our lattice, the distance of nearest neighbours, and √(h² + k² + l²) of the first reflection."""


@pytest.mark.parametrize("model", CUBIC)
def test_the_rings_of_a_cubic_powder_lie_where_sasmodels_has_them(intensity, model):
    build, neighbours, first = CUBIC[model]
    ratio = np.arange(0.9, 2.1, 0.002)
    # sasmodels' own average over directions takes 150 x 150 of them, too few for peaks as narrow as it takes to
    # tell these rings apart. At theta = 90°, phi = 0 the x axis is the crystal's c axis, and psi turns about it:
    # half the sphere, which by inversion is all.
    polar = np.radians(np.arange(0.375, 180.0, 0.75))
    q = ratio[:, None] * (first * 2.0 * math.pi / EDGE)
    at = ((q * np.cos(polar)).ravel(), (q * np.sin(polar)).ravel())
    powder = np.zeros(len(ratio))
    for psi in np.arange(0.0, 180.0, 0.75):
        plane = intensity(model, at, dnn=neighbours, d_factor=0.04, theta=90.0, phi=0.0, psi=psi, **SMALL)
        powder += plane.reshape(q.shape[0], -1) @ np.sin(polar)
    powder *= ratio**2
    # A finite number of directions splits the narrowest ring; maxima nearer than 2 % are one.
    tops = ratio[find_peaks(powder, prominence=0.05 * powder.max(), distance=10)[0]]
    expected = [r.ratio for r in build(axis="001").reflections if r.ratio < 2.1]
    # The step of 0.002, and disorder that grows with q pulls a maximum inwards by about the width's square (0.8 %).
    assert tops == pytest.approx(expected, abs=0.005)


VIEWS = {
    # theta, phi and psi that bring the axis into the beam and the two directions that `lattices` names for it to
    # the x and y axes of (qx, qy), from the matrix of sasmodels' kernel_iq.c.
    "001": {"theta": 0.0, "phi": 0.0, "psi": 0.0},
    "111": {"theta": math.degrees(math.acos(math.sqrt(1 / 3))), "phi": -90.0, "psi": 135.0},
}


@pytest.mark.parametrize("axis", VIEWS)
@pytest.mark.parametrize("model", CUBIC)
def test_the_spots_of_an_oriented_cubic_crystal_lie_where_sasmodels_has_them(intensity, model, axis):
    build, neighbours, first = CUBIC[model]
    lattice = build(axis=axis)
    azimuth = np.radians(np.arange(-50.0, 310.0, 0.05))

    def around(ratio):
        q = ratio * first * 2.0 * math.pi / EDGE
        at = (q * np.cos(azimuth), q * np.sin(azimuth))
        return intensity(model, at, dnn=neighbours, d_factor=0.04, **SMALL, **VIEWS[axis])

    profiles = [(reflection, around(reflection.ratio)) for reflection in lattice.reflections]
    faintest = min(profile.max() for reflection, profile in profiles if reflection.angles)
    for reflection, profile in profiles:
        if not reflection.angles:
            # Out of the plane: only the tails of neighbouring rings.
            assert profile.max() < 0.1 * faintest
            continue
        tops = np.degrees(azimuth[find_peaks(profile, height=0.02 * profile.max())[0]])
        expected = [
            (math.degrees(angle) + 360.0 * turn / lattice.order + 50.0) % 360.0 - 50.0
            for angle in reflection.angles
            for turn in range(lattice.order)
        ]
        # Two steps of the azimuth. Heights are not compared: the model's disorder, along three axes that are not at
        # right angles, is not itself cubic.
        assert tops == pytest.approx(sorted(expected), abs=0.1)


def test_the_orders_of_a_lamellar_stack_lie_where_sasmodels_has_them(intensity):
    spacing = 100.0
    q = np.linspace(0.5, 6.5, 60001) * 2.0 * math.pi / spacing
    stack = intensity(
        "lamellar_stack_paracrystal", q, thickness=0.01, Nlayers=30.0, d_spacing=spacing, sigma_d=0.005
    )
    tops = q[find_peaks(stack * q**2, prominence=0.3 * (stack * q**2).max())[0]] / (2.0 * math.pi / spacing)
    # The step, 0.0001 of the first order.
    assert tops == pytest.approx([r.ratio for r in lattices.lamellar().reflections], abs=3e-4)


def test_the_width_of_a_lamellar_peak_is_scherrers(intensity):
    spacing, layers = 100.0, 40
    q = np.linspace(0.9, 1.1, 20001) * 2.0 * math.pi / spacing
    stack = q**2 * intensity(
        "lamellar_stack_paracrystal",
        q,
        thickness=0.01,
        Nlayers=float(layers),
        d_spacing=spacing,
        sigma_d=0.005,
    )
    above = q[stack >= 0.5 * stack.max()]
    # K is 0.886 for a stack of planes and 0.9 is the customary round number; the disorder without which the model
    # divides 0 by 0 adds 0.7 %.
    assert above[-1] - above[0] == pytest.approx(lattices.scherrer_fwhm(layers * spacing), rel=0.025)
