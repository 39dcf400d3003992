"""Training: examples from the simulator, fitting, evaluation, bundles. Runs where there is no Bluesky."""

from dvfb_stream.training.fitting import FittingSettings
from dvfb_stream.training.recipe import Recipe, train

__all__ = ["FittingSettings", "Recipe", "train"]
