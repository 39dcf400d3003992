"""Training: examples from the simulator, fitting, evaluation, bundles. Runs where there is no Bluesky."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvfb_stream.lazy_imports import lazy_names

if TYPE_CHECKING:
    from dvfb_stream.training.presets import PRESETS, FittingSettings, Recipe, preset
    from dvfb_stream.training.recipe import Reports, train

__all__ = ["PRESETS", "FittingSettings", "Recipe", "Reports", "preset", "train"]

__getattr__ = lazy_names(__name__, __file__)
