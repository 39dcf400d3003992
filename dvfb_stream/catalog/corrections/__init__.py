"""What people know of frames better than a model: said beside the annotations, found, taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvfb_stream.lazy_imports import lazy_names

if TYPE_CHECKING:
    from dvfb_stream.catalog.corrections.correcting import correct, correct_many, undo
    from dvfb_stream.catalog.corrections.correction import (
        Correction,
        ModelRow,
        Undo,
        by_frame,
        corrected_labels,
        stated_labels,
    )
    from dvfb_stream.catalog.corrections.export import Exported, Others, export_labels
    from dvfb_stream.catalog.corrections.reading import corrections_of, read_corrections
    from dvfb_stream.catalog.corrections.wanted import CorrectionsRefusedError, WantedCorrection

__all__ = [
    "Correction",
    "CorrectionsRefusedError",
    "Exported",
    "ModelRow",
    "Others",
    "Undo",
    "WantedCorrection",
    "by_frame",
    "correct",
    "correct_many",
    "corrected_labels",
    "corrections_of",
    "export_labels",
    "read_corrections",
    "stated_labels",
    "undo",
]

__getattr__ = lazy_names(__name__, __file__, extra="tiled")
