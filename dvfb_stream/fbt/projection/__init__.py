"""From pixels to what the estimate needs of them: block averages, projections Uᵀy, the Gram matrix UᵀU."""

from dvfb_stream.fbt.projection.fitted_basis import FittedBasis, Projections
from dvfb_stream.fbt.projection.gram import gram_matrix
from dvfb_stream.fbt.projection.pixels import (
    FittedPixels,
    WorkingGrid,
    WorkingImages,
    block_sum,
    working_type,
)
from dvfb_stream.fbt.projection.symmetric_projection import PlainProjection, SymmetricProjection

__all__ = [
    "FittedBasis",
    "FittedPixels",
    "PlainProjection",
    "Projections",
    "SymmetricProjection",
    "WorkingGrid",
    "WorkingImages",
    "block_sum",
    "gram_matrix",
    "working_type",
]
