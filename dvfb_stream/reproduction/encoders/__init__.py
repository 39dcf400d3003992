"""Feed-forward encoders: the estimate's coefficients at a fixed cost, close to the minimum of (9), not certified."""

from dvfb_stream.reproduction.encoders.linear import LinearEncoder
from dvfb_stream.reproduction.encoders.unrolled import UnrolledEncoder
from dvfb_stream.reproduction.encoders.weights import EncoderWeights, load_weights, save_weights

__all__ = ["EncoderWeights", "LinearEncoder", "UnrolledEncoder", "load_weights", "save_weights"]
