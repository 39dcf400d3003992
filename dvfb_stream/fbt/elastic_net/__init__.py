"""The elastic net (9): batches of frames that share a Gram matrix, solved to a certificate."""

from dvfb_stream.fbt.elastic_net.penalty_scaling import PenalisedFit
from dvfb_stream.fbt.elastic_net.problem import Certificate, Quadratic, Solution, certify
from dvfb_stream.fbt.elastic_net.solve import solve

__all__ = [
    "Certificate",
    "PenalisedFit",
    "Quadratic",
    "Solution",
    "certify",
    "solve",
]
