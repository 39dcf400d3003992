"""What this project wants to reach on real frames, printed beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Aim:
    """A bound on a figure."""

    bound: float
    at_most: bool = False
    """Whether the figure is to stay below; else it is to be so large at least."""

    def reached(self, value: float | None) -> bool:
        """Return whether a figure keeps to the bound; one that was not measured does not."""
        if value is None:
            return False
        return value <= self.bound if self.at_most else value >= self.bound

    def beside(self, value: float | None) -> str:
        """Return the bound, and whether a figure reaches it, for a table."""
        bound = f"{'<=' if self.at_most else '>='} {self.bound:.2f}"
        if value is None:
            return bound
        return f"{bound}, {'reached' if self.reached(value) else 'missed'}"


OF_REAL_FRAMES: Mapping[str, Aim] = {
    "all_right": Aim(0.75),
    "mean_average_precision": Aim(0.90),
    "precision": Aim(0.92),
    "recall": Aim(0.80),
    "expected_calibration_error": Aim(0.06, at_most=True),
}
"""By what is measured over all labels."""
OF_ROC_AREA: Mapping[str, Aim] = {
    "two_fold": Aim(0.90),
    "symmetry_rings": Aim(0.85),
    "grazing": Aim(0.98),
}
"""By label."""
OF_WARNINGS: Mapping[str, Aim] = {"doubtful_or_novel": Aim(0.80)}
"""Area under the ROC curve against frames with a wrong accepted label."""
OF_GRAZING_FRAMES: Mapping[str, Aim] = {
    "two_fold": Aim(0.02, at_most=True),
    "four_fold": Aim(0.02, at_most=True),
}
"""Share of grazing frames with such a label."""
OF_ALTERATIONS: Mapping[str, Aim] = {
    "symmetries": Aim(0.98),
    "rotations": Aim(0.92),
    "centre_off": Aim(0.95),
    "counts_tenth": Aim(0.90),
    "counts_tenfold": Aim(0.90),
    "scaled": Aim(0.90),
    "beamstop": Aim(0.90),
    "binned": Aim(0.95),
    "larger_detector": Aim(0.90),
    "larger_continued": Aim(0.90),
}
"""Share of frames whose accepted labels stay the same in all ways of an alteration."""
OF_TWINS = Aim(0.01, at_most=True)
"""Share of isotropic twins with a fold or symmetry label."""
