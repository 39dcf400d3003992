"""Where analysis runs lie: in a container of their own beside that of the raw runs, never among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiled.client.container import Container
from tiled.client.utils import ClientError
from tiled.queries import KeyPresent
from tiled.structures.core import Spec

from dvfb_stream.catalog.answers import told_apart
from dvfb_stream.catalog.connection import check_container
from dvfb_stream.errors import SettingsError

PLACE_SPEC = "DvfbAnnotations"
"""Name of the spec of a container of analysis runs."""
RUN_SPEC = "DvfbAnnotation"
"""Name of the spec of an analysis run, besides BlueskyRun."""
KIND = "dvfb-annotation"
"""``start.analysis.kind`` of an analysis run."""

STREAM = "annotations"
"""Name of an analysis run's only stream."""
TABLE = "internal"
"""Key of the table of rows in its stream, where Bluesky's client looks for it."""

_SUFFIX = "annotations"
_LEASES_SUFFIX = "leases"
_CATALOG_SPEC = "CatalogOfBlueskyRuns"
_CONFLICT = 409

CATALOG_SPECS = (Spec(_CATALOG_SPEC, version="3.0"),)
"""Specs of a container of runs; by them Tiled's client is Bluesky's: ``catalog[scan_id]``, ``catalog[-1]``."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the analysis runs of one container of raw runs lie.

    ``<parent>/<key>`` holds the runs and nothing else. ``<parent>/<key>_leases`` holds what their writers need: who
    writes which run. It lies apart because Bluesky's client takes whatever is in a container of runs for a run.
    """

    parent: Any
    """Tiled client of the container that both lie in."""
    key: str
    """Of the container of analysis runs."""

    @property
    def name(self) -> str:
        """Where it is, as no other place is called."""
        return f"{self.parent.uri}/{self.key}"

    def find(self) -> Any | None:
        """Return Bluesky's client of the container of analysis runs; None before the first is stored."""
        return self.parent.get(self.key)

    def make(self) -> tuple[Container, Container]:
        """Return plain clients of the containers of runs and of leases, made where they are not there.

        Raises
        ------
        StoreUnavailableError, StoreRefusedError
            When they cannot be made.
        """
        with told_apart(f"making the container {self.key!r} for annotations"):
            runs = found_or_created(
                self.parent, self.key, specs=[Spec(PLACE_SPEC, version="1.0"), *CATALOG_SPECS]
            )
            leases = found_or_created(self.parent, f"{self.key}_{_LEASES_SUFFIX}", specs=[])
        return plain(runs), plain(leases)


def place_of(client: Any) -> Place:
    """Return where the analysis runs go, and are looked for.

    Parameters
    ----------
    client
        Tiled client of a container of raw runs, say ``/smi/raw``: then it is ``/smi/raw_annotations``. That of a
        place itself stands for itself. That of a server's root which holds no runs stands for its child
        ``annotations``.

    Raises
    ------
    SettingsError
        When it is no container, or lies among raw runs or is the root that they lie in: everything else there would
        be seen among them.
    """
    place = _place_beside(client)
    if _holds_raw_runs(place.parent):
        raise SettingsError(
            f"raw runs lie in {place.parent.uri}, where a container of annotations would be seen among them; give "
            "another container for the annotations, of this server or of another: TiledSink(connect(URI)). A folder "
            "that an earlier version has filled is put in order by `dvfb catalog move FOLDER`"
        )
    return place


def find_place(client: Any) -> Any | None:
    """Return Bluesky's client of the analysis runs that `place_of` a client means; None where there are none.

    Raises
    ------
    SettingsError
        When it is no container.
    """
    return _place_beside(client).find()


def _place_beside(client: Any) -> Place:
    check_container(client)
    *_, key = [part for part in client.path_parts if part] or [""]
    if not key:
        return Place(plain(client), _SUFFIX)
    is_place = PLACE_SPEC in {spec.name for spec in client.specs}
    return Place(plain(client.parent), key if is_place else f"{key}_{_SUFFIX}")


def found_or_created(parent: Any, key: str, **description: Any) -> Any:
    """Return the container `key`, created if it is not there, by whoever comes first."""
    there = parent.get(key)
    if there is not None:
        return there
    try:
        return parent.create_container(key=key, **description)
    except ClientError as error:
        if error.response.status_code != _CONFLICT:
            raise
        return parent[key]


def plain(client: Any) -> Container:
    """Return Tiled's own client of a container, which takes a key for a key and not for a part of a uid."""
    return Container(client.context, item=client.item, structure_clients=client.structure_clients)


def _holds_raw_runs(container: Container) -> bool:
    if _CATALOG_SPEC in {spec.name for spec in container.specs}:
        return True
    runs = container.search(KeyPresent("start.uid")).search(KeyPresent("start.analysis.kind", exists=False))
    return len(runs.keys().head(1)) > 0
