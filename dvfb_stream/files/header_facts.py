"""What the headers of image files declare, in the words of Pilatus and of ESRF's data format."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress

from dvfb_stream.files.declared_centre import with_edf_centre, with_pilatus_centre
from dvfb_stream.files.file_facts import NO_FACTS, FileFacts
from dvfb_stream.frames import InvalidValues

_CUTOFF = re.compile(r"^#\s*Count_cutoff\s+(\d+)\s+counts", re.MULTILINE)
"""In CBF and TIFF files of Pilatus: pixels do not count right beyond."""


def pilatus_facts(header: str) -> FileFacts:
    """Return what the comments in a Pilatus header say: ``# Count_cutoff 1048500 counts``, ``# Beam_xy (1, 2)``."""
    found, facts = _CUTOFF.search(header), NO_FACTS
    if found is not None and len(found[1]) <= 12 and int(found[1]) > 0:
        facts = FileFacts(invalid_values=InvalidValues(above=int(found[1])))
    return with_pilatus_centre(facts, header)


def edf_facts(header: Mapping[str, str]) -> FileFacts:
    """Return what an EDF header says: ``Dummy`` marks pixels without a value, ``DDummy`` is its tolerance.

    And what it says of the beam centre: see `with_edf_centre`.

    ``Dummy = 0`` is taken for none declared: most pixels of a photon counter hold a 0, and it is a count.
    """
    told = {key.lower(): value for key, value in header.items()}
    dummy, delta = (_number(told.get(key, "")) for key in ("dummy", "ddummy"))
    facts = NO_FACTS
    if dummy:
        facts = FileFacts(invalid_values=InvalidValues(values=(dummy,), delta=abs(delta or 0.0)))
    return with_edf_centre(facts, header)


def _number(text: object) -> float | None:
    with suppress(TypeError, ValueError):
        number = float(str(text))
        return number if math.isfinite(number) else None
    return None
