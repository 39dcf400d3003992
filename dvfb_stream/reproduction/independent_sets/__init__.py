"""Two held-out domains in the roles of the paper's experimental data (its Table 3): `single` and `mixed`."""

from dvfb_stream.reproduction.independent_sets.domain import Domain, IndependentFrame, domain

__all__ = ["Domain", "IndependentFrame", "domain"]
