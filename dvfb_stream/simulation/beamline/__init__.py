"""The simulated beamline: detectors, what stands before them, experiments, and how photons are counted."""
