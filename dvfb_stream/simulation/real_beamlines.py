"""How often the things of real beamlines are met: the settings that differ from the simulator's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REAL_BEAMLINES: Mapping[str, Any] = {
    "detectors": {
        "ccd": 0.25,
        "pilatus_100k": 0.06,
        "pilatus_300k": 0.08,
        "pilatus_1m": 0.26,
        "pilatus_2m": 0.1,
        "eiger_1m": 0.1,
        "eiger_4m": 0.1,
        "mar_165": 0.05,
    },
    "frames_per_experiment": 20,
    "exposure": (0.01, 3e4),
    "grazing": 0.12,
    "masked_beamstop": 0.4,
    "window": 0.25,
    "diffuse_only": 0.06,
    "blank": 0.06,
    "sample": 0.9,
    "more_structures": 0.4,
    "structures": {
        "symmetry_ring": 0.04,
        "symmetry_halo": 0.06,
        "symmetry_rings": 0.08,
        "sphere": 0.06,
        "lattice": 0.1,
        "distorted_lattice": 0.02,
        "ad_hoc_rings": 0.14,
        "speckled_rings": 0.05,
        "coherent_halo": 0.08,
        "mesostructure": 0.08,
        "fibre": 0.13,
        "single_ring": 0.13,
        "oriented_orders": 0.04,
        "powder_grains": 0.08,
    },
    "diffuse": 0.5,
    "low_q": 0.35,
    "anisotropic_low_q": 0.12,
    "high_q": 0.12,
    "parasitic": 0.1,
    "streaks": 0.12,
    "fold_rule": "contrast",
    "round_detector": 0.15,
    "cropped_detector": 0.12,
    "arms": 0.7,
    "shadows": 0.12,
    "central": 0.6,
    "off_detector": 0.07,
    "small_pattern": 0.35,
    "large_pattern": 0.1,
    "glow": 0.85,
    "low_q_beneath": 0.75,
    "stray": 0.15,
    "films": 0.8,
    "hot_pixels": 0.25,
    "panel_steps": 0.15,
    "pedestal": 0.15,
    "dark_subtracted": 0.08,
    "normalised": 0.08,
    "misaligned": 0.06,
}
"""What differs from the defaults. Public frames are of modular detectors mostly, and of some round ones; nearly all
show a glow; on many the pattern fills a fifth of the detector; beams lie near the middle, or off a detector for wide
angles; beamstops are disks, their arms thin where they show, and oblique as often as upright."""
