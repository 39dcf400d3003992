"""The networks: sub-networks for either view, and the one that joins them."""

from dvfb_stream.models.networks.annotation import AnnotationNetwork, Inputs, build_network

__all__ = ["AnnotationNetwork", "Inputs", "build_network"]
