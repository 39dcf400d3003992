"""Devices. A real beamline makes its own here, and describes its detectors in the TOML file of DVFB_BEAMLINE."""

from dvfb_stream.profiles.beamline_description import read_beamline

beamline = read_beamline()
geometries = {}
if beamline.description.simulation is not None:
    from ophyd.sim import motor  # noqa: F401

    from dvfb_stream.profiles.exposures import SimulatedExposures
    from dvfb_stream.profiles.simulated_detector import SimulatedDetector

    det = SimulatedDetector(
        SimulatedExposures(beamline.description.simulation.seed),
        name=beamline.description.simulation.detector,
    )
    geometries[det.image.name] = det.geometry
