"""Descriptors that need no network: the off-the-shelf peers of the paper's Table 4, as scikit-learn transformers."""

from dvfb_stream.reproduction.descriptors.lbphog import LbpHog
from dvfb_stream.reproduction.descriptors.pcanet import PcaNet

__all__ = ["LbpHog", "PcaNet"]
