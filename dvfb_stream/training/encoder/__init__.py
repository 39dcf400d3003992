"""Training the unrolled encoder: solved problems from the simulator, fitting, weights."""

from dvfb_stream.training.encoder.fitting import EncoderFittingSettings
from dvfb_stream.training.encoder.recipe import EncoderRecipe, train

__all__ = ["EncoderFittingSettings", "EncoderRecipe", "train"]
