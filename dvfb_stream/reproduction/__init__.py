"""Labelled frames that the simulator did not make, to measure a model beyond what it was trained on.

Nothing here knows the simulator: scattering is computed by sasmodels and pyFAI, and what is visible is decided by a
rule of its own, to the definitions of docs/labels.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvfb_stream.lazy_names import lazy_names

if TYPE_CHECKING:
    from dvfb_stream.reproduction.independent import Domain, domain
    from dvfb_stream.reproduction.labelled_counts import ForeignFrame
    from dvfb_stream.reproduction.oddities import KINDS, oddity

__all__ = ["KINDS", "Domain", "ForeignFrame", "domain", "oddity"]

__getattr__ = lazy_names(__name__, __file__)
