"""Training the unrolled encoder: solved problems from the simulator, fitting, weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvfb_stream.lazy_imports import lazy_names

if TYPE_CHECKING:
    from dvfb_stream.reproduction.encoder_training.fitting import EncoderFittingSettings
    from dvfb_stream.reproduction.encoder_training.recipe import EncoderRecipe, train

__all__ = ["EncoderFittingSettings", "EncoderRecipe", "train"]

__getattr__ = lazy_names(__name__, __file__)
