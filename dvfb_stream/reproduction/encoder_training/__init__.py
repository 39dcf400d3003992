"""Training the unrolled encoder: solved problems from the simulator, fitting, weights."""

from dvfb_stream.reproduction.encoder_training.fitting import EncoderFittingSettings
from dvfb_stream.reproduction.encoder_training.recipe import EncoderRecipe, train

__all__ = ["EncoderFittingSettings", "EncoderRecipe", "train"]
