"""What reproduces the paper and what the product is compared with; nothing that runs at a beamline imports it.

`domain` and `oddity` make frames that share nothing with the simulator, to measure a model beyond what it was trained
on: scattering is computed by sasmodels and pyFAI, and what is visible is decided by a rule of its own, to the
definitions of docs/labels.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvfb_stream.lazy_imports import lazy_names

if TYPE_CHECKING:
    from dvfb_stream.reproduction.independent_sets import Domain, IndependentFrame, domain
    from dvfb_stream.reproduction.oddities import KINDS, oddity

__all__ = ["KINDS", "Domain", "IndependentFrame", "domain", "oddity"]

__getattr__ = lazy_names(__name__, __file__)
