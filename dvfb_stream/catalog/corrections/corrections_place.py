"""Where corrections lie: in a container of their own beside the raw runs and their annotations."""

from __future__ import annotations

from typing import Any

from tiled.client.container import Container
from tiled.queries import SpecsQuery
from tiled.structures.core import Spec

from dvfb_stream.catalog.answers import told_apart
from dvfb_stream.catalog.connection import check_container
from dvfb_stream.catalog.place import (
    ANNOTATIONS_SUFFIX,
    CATALOG_SPECS,
    PLACE_SPEC,
    found_or_created,
    place_of,
    plain,
)

CORRECTIONS_SPEC = "DvfbCorrections"
"""Name of the spec of a container of corrections."""
CORRECTION_SPEC = "DvfbCorrection"
"""Name of the spec of a run in it, besides BlueskyRun."""

CORRECTIONS = "_corrections"
"""What stands behind the key of the container of raw runs."""

Path = tuple[str, ...]
"""Keys from a server's root on."""


def make_corrections(client: Any) -> Container:
    """Return a plain client of the container of corrections, made where it is not there.

    Raises
    ------
    SettingsError
        When `client` is no container beside which something can lie; see `place_of`.
    StoreUnavailableError, StoreRefusedError
        When it cannot be made.
    """
    check_container(client)
    with told_apart("making the container for corrections"):
        parent = place_of(client).parent if _is_raw(client) else plain(client.parent)
        path = path_beside(client, CORRECTIONS)
        assert path is not None  # place_of saw to it
        specs = [Spec(CORRECTIONS_SPEC, version="1.0"), *CATALOG_SPECS]
        return plain(found_or_created(parent, path[-1], specs=specs))


def paths_of_corrections(client: Any) -> list[Path]:
    """Return where corrections may lie: beside a container of runs; of what is none, the places in it.

    Raises
    ------
    SettingsError
        When `client` is no Tiled container.
    """
    check_container(client)
    beside = path_beside(client, CORRECTIONS)
    found = [] if beside is None else [beside]
    # In a container of runs lie nothing but runs, a million perhaps: a search for others would look at each.
    if _is_raw(client) and CATALOG_SPECS[0].name not in {spec.name for spec in client.specs}:
        with told_apart(f"looking for corrections in {client.uri}"):
            inside = plain(client).search(SpecsQuery(include=[CORRECTIONS_SPEC], exclude=[])).keys()
            found += [(*path_of(client), name) for name in inside]
    return found


def path_of(client: Any) -> Path:
    """Return the path of a container from its server's root."""
    return tuple(part for part in client.path_parts if part)


def path_beside(client: Any, suffix: str) -> Path | None:
    """Return where what a container has beside it lies, whichever it is itself; None for a root."""
    if not (path := path_of(client)):
        return None
    *above, key = path
    specs = {spec.name for spec in client.specs}
    for spec, own in ((PLACE_SPEC, ANNOTATIONS_SUFFIX), (CORRECTIONS_SPEC, CORRECTIONS)):
        if spec in specs:
            if own == suffix:
                return path
            key = key.removesuffix(own)
    return (*above, key + suffix)


def _is_raw(client: Any) -> bool:
    return not {PLACE_SPEC, CORRECTIONS_SPEC} & {spec.name for spec in client.specs}
