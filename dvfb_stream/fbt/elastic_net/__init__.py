"""The elastic net (9): batches of frames that share a Gram matrix, solved to a certificate."""

from dvfb_stream.fbt.elastic_net.problem import Certificate, PenalisedFit, Quadratic, Solution, certify
from dvfb_stream.fbt.elastic_net.solve import Admm, solve

__all__ = [
    "Admm",
    "Certificate",
    "PenalisedFit",
    "Quadratic",
    "Solution",
    "certify",
    "solve",
]
