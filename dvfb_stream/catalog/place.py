"""Where analysis runs lie: in a container of their own beside that of the raw runs, never among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiled.client.container import Container
from tiled.client.utils import ClientError
from tiled.queries import KeyPresent, SpecsQuery, StructureFamilyQuery
from tiled.structures.core import Spec, StructureFamily

from dvfb_stream.catalog.answers import told_apart
from dvfb_stream.catalog.connection import check_container
from dvfb_stream.catalog.store_errors import StoreFaultError
from dvfb_stream.errors import SettingsError

PLACE_SPEC = "DvfbAnnotations"
"""Name of the spec of a container of analysis runs."""
RUN_SPEC = "DvfbAnnotation"
"""Name of the spec of an analysis run, besides BlueskyRun."""
KIND = "dvfb-annotation"
"""``start.analysis.kind`` of an analysis run."""

STREAM = "annotations"
"""Name of the stream that has an analysis run's rows."""
TABLE = "internal"
"""Key of the table of rows in its stream, where Bluesky's client looks for it."""
ARRAYS = "arrays"
"""Key of the arrays of an analysis run that keeps some, beside that stream: who reads labels does not load them."""

ANNOTATIONS_SUFFIX = "_annotations"
LEASES_SUFFIX = "leases"
_CATALOG_SPEC = "CatalogOfBlueskyRuns"
_CONFLICT = 409

_NOT_LOOKED_INTO = [_CATALOG_SPEC, "BlueskyRun", "BlueskyEventStream"]
"""Names of the specs of containers in which no place lies."""
_DEEPEST = 5
"""Levels at which a place is looked for: ``/facility/beamline/year/cycle/raw_annotations``."""
_MOST_LOOKED_INTO = 500
"""Containers that are looked into, 20 ms each. Beyond, it is no layout of beamlines, but data."""

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

    @property
    def path(self) -> list[str]:
        """Keys from the server's root to the container of analysis runs."""
        return [*(part for part in self.parent.path_parts if part), self.key]

    @property
    def raw_path(self) -> list[str] | None:
        """Keys to the container of raw runs, if it is beside; None where the place is named otherwise."""
        key = self.key.removesuffix(ANNOTATIONS_SUFFIX)
        return [*self.path[:-1], key] if key != self.key else None

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
            leases = found_or_created(self.parent, f"{self.key}_{LEASES_SUFFIX}", specs=[])
        return plain(runs), plain(leases)


def place_of(client: Any) -> Place:
    """Return where the analysis runs go, and are looked for.

    Parameters
    ----------
    client
        Tiled client of a container of raw runs, say ``/smi/raw``: then it is ``/smi/raw_annotations``. That of a
        place itself stands for itself.

    Raises
    ------
    SettingsError
        When it is no container, is the root of a server, or lies among raw runs: everything else there would be seen
        among them. A root has nothing beside it, and raw runs may come into it later.
    """
    check_container(client)
    place = _place_beside(client)
    if place is None or _holds_raw_runs(place.parent):
        where = (
            f"{client.uri} is the root of its server"
            if place is None
            else f"raw runs lie in {place.parent.uri}"
        )
        raise SettingsError(
            f"{where}, where a container of annotations would be seen among the raw runs; give a container of raw "
            "runs that is not the root, such as client['raw'], or give another container for the annotations, of "
            "this server or of another: TiledSink(connect(URI)). A folder that an earlier version has filled is put "
            "in order by `dvfb catalog move FOLDER`"
        )
    return place


def find_place(client: Any) -> Any | None:
    """Return Bluesky's client of the analysis runs that `place_of` a client means; None where there are none.

    Raises
    ------
    SettingsError
        When it is no container.
    """
    check_container(client)
    place = _place_beside(client)
    return None if place is None else place.find()


def places_in(client: Any) -> list[Any]:
    """Return Bluesky's clients of the places that lie in a container, or in containers in it.

    So from a server's root those of all its beamlines are found, ``/iss/2026/raw_annotations`` say.
    Level by level, five deep; nobody looks into catalogs of runs, nor into runs.

    Raises
    ------
    SettingsError
        When so many containers lie there that it would take long to look into each.
    """
    places: list[Any] = []
    level, looked_in = [plain(client)], 0
    for _ in range(_DEEPEST):
        below: list[Container] = []
        for container in level:
            looked_in += 1
            places += container.search(SpecsQuery(include=[PLACE_SPEC], exclude=[])).values()
            others = container.search(StructureFamilyQuery(StructureFamily.container)).search(
                SpecsQuery(include=[], exclude=_NOT_LOOKED_INTO)
            )
            for other in others.values():
                if not other.path_parts[-1].endswith(f"{ANNOTATIONS_SUFFIX}_{LEASES_SUFFIX}"):
                    below.append(plain(other))
                if looked_in + len(below) > _MOST_LOOKED_INTO:
                    raise SettingsError(
                        f"{client.uri} has more than {_MOST_LOOKED_INTO} containers, and annotations may lie beside "
                        "each; give the container of the raw runs, such as client['smi']['raw'], or that of their "
                        "annotations, client['smi']['raw_annotations']"
                    )
        level = below
    return places


def _place_beside(client: Any) -> Place | None:
    """Return the place of a container's analysis runs; None for a root, beside which nothing can lie."""
    *_, key = [part for part in client.path_parts if part] or [""]
    if not key:
        return None
    is_place = PLACE_SPEC in {spec.name for spec in client.specs}
    return Place(plain(client.parent), key if is_place else f"{key}{ANNOTATIONS_SUFFIX}")


def table_of_run(run: Any) -> Any | None:
    """Return the client of the table that keeps the rows of an analysis run; None if none."""
    # As plain containers: where databroker was used, Bluesky's client of a run has no `base`.
    stream = plain(run).get(STREAM)
    return None if stream is None else plain(stream).get(TABLE)


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
    """Return Tiled's own client of a container, which takes a key for a key and not for a part of a uid.

    Raises
    ------
    StoreFaultError
        When the client was made from an answer that describes no node: it would be kept, and never work.
    """
    if "links" not in client.item:
        raise StoreFaultError("what answered is not Tiled's answer: it describes no node")
    return Container(client.context, item=client.item, structure_clients=client.structure_clients)


def _holds_raw_runs(container: Container) -> bool:
    if _CATALOG_SPEC in {spec.name for spec in container.specs}:
        return True
    runs = container.search(KeyPresent("start.uid")).search(KeyPresent("start.analysis.kind", exists=False))
    return len(runs.keys().head(1)) > 0
