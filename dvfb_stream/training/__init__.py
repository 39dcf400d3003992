"""Training: examples from the simulator, fitting, evaluation, bundles. Runs where there is no Bluesky."""

from dvfb_stream.training.presets import PRESETS, Recipe, preset
from dvfb_stream.training.recipe import Reports, train
from dvfb_stream.training.settings import FittingSettings

__all__ = ["PRESETS", "FittingSettings", "Recipe", "Reports", "preset", "train"]
