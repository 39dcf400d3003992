"""What the headers of image files declare of invalid pixels, in the words of Pilatus and of ESRF's data format."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress

from dvfb_stream.files.file_facts import NO_FACTS, FileFacts
from dvfb_stream.frames import InvalidValues

_CUTOFF = re.compile(r"^#\s*Count_cutoff\s+(\d+)\s+counts", re.MULTILINE)
"""In CBF and TIFF files of Pilatus: pixels do not count right beyond."""


def pilatus_facts(header: str) -> FileFacts:
    """Return what the comments in a Pilatus header say: ``# Count_cutoff 1048500 counts``."""
    found = _CUTOFF.search(header)
    if found is None or len(found[1]) > 12 or int(found[1]) == 0:
        return NO_FACTS
    return FileFacts(invalid_values=InvalidValues(above=int(found[1])))


def edf_facts(header: Mapping[str, str]) -> FileFacts:
    """Return what an EDF header says: ``Dummy`` marks pixels without a value, ``DDummy`` is its tolerance.

    ``Dummy = 0`` declares nothing: that is how the SAXS programs of ESRF write that there is none, and as many photon
    counters' pixels that saw no photon hold a 0.
    """
    told = {key.lower(): value for key, value in header.items()}
    dummy, delta = (_number(told.get(key, "")) for key in ("dummy", "ddummy"))
    if not dummy:
        return NO_FACTS
    return FileFacts(invalid_values=InvalidValues(values=(dummy,), delta=abs(delta or 0.0)))


def _number(text: object) -> float | None:
    with suppress(TypeError, ValueError):
        number = float(str(text))
        return number if math.isfinite(number) else None
    return None
