"""From pixels to what the estimate needs of them: block averages, projections Uᵀy, the Gram matrix UᵀU."""

from dvfb_stream.fbt.projection.folded import FoldedProjection
from dvfb_stream.fbt.projection.gram import gram_matrix
from dvfb_stream.fbt.projection.pixels import (
    FittedPixels,
    WorkingGrid,
    WorkingImages,
    block_sum,
    working_type,
)
from dvfb_stream.fbt.projection.plain import PlainProjection
from dvfb_stream.fbt.projection.visible import Projections, VisibleBasis

__all__ = [
    "FittedPixels",
    "FoldedProjection",
    "PlainProjection",
    "Projections",
    "VisibleBasis",
    "WorkingGrid",
    "WorkingImages",
    "block_sum",
    "gram_matrix",
    "working_type",
]
