"""What the networks see of a frame: a square log-intensity image with its own mask and beam centre."""

from dvfb_stream.view.resampling import (
    FINER,
    FULL_SCALE,
    MAXIMUM,
    VIEW_SIZE,
    FineRaster,
    FineView,
    View,
    ViewResampler,
    ViewResamplers,
    counts_of,
    make_view,
)

__all__ = [
    "FINER",
    "FULL_SCALE",
    "MAXIMUM",
    "VIEW_SIZE",
    "FineRaster",
    "FineView",
    "View",
    "ViewResampler",
    "ViewResamplers",
    "counts_of",
    "make_view",
]
