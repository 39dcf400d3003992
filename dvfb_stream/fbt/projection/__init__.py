"""From pixels to what the estimate needs of them: block averages, projections Uᵀy, the Gram matrix UᵀU."""

from dvfb_stream.fbt.projection.fitted_basis import (
    FittedBasis,
    PlainProjection,
    Projections,
    SymmetricProjection,
)
from dvfb_stream.fbt.projection.gram import gram_matrix
from dvfb_stream.fbt.projection.pixels import (
    FittedPixels,
    WorkingGrid,
    WorkingImages,
    block_sum,
)

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
]
