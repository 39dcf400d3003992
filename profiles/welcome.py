"""The few lines with which the IPython profile greets: what is there, and what to type."""

from __future__ import annotations

from typing import Any

from dvfb_stream.profiles.beamline_description import Beamline

_GENERAL = """\
  live.wait()                          until the rows of all frames are stored
  find_runs(catalog, "four_fold")      uids of the runs with 4-fold symmetry
  find_doubtful_runs(catalog, "four_fold")   those with frames that somebody should look at
  read_annotations(catalog, uid)       the rows of a run
  live.stats()                         what came in, and what became of it"""


def welcome(beamline: Beamline, catalog: Any) -> str:
    """Return the lines."""
    description = beamline.description
    lines = [
        f"dvfb: beamline {description.name} ({beamline.path})",
        f"      every run of RE is annotated by the model {description.model} and kept in {catalog.uri}",
        "Try:",
    ]
    if description.simulation is not None:
        lines += [
            '  (uid,) = RE(bp.count([det], 5), sample_name="trial")       five exposures of simulated samples',
            "  RE(bp.scan([det], motor, -1, 1, 11))                       a scan of the sample stage",
        ]
    return "\n".join([*lines, _GENERAL])
