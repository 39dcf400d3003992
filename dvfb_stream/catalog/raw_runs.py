"""Which raw run is meant, by what people call it: its uid or the beginning of it, its scan number, the last."""

from __future__ import annotations

import re
from typing import Any

from tiled.client.container import Container
from tiled.queries import Key, KeyPresent, Like

from dvfb_stream.catalog.answers import told_apart
from dvfb_stream.catalog.connection import check_container
from dvfb_stream.catalog.place import ANNOTATIONS_SUFFIX, PLACE_SPEC, find_place, places_in, plain
from dvfb_stream.errors import SettingsError

SHORTEST_UID = 5
"""Characters that name a run: as Bluesky's client has it."""

_UID_LENGTH = 36
_NUMBER = re.compile(r"-?[0-9]{1,15}")
_PART_OF_UID = re.compile(r"[A-Za-z0-9-]+")


def raw_uid_of(client: Any, run: str | int) -> str:
    """Return the uid of the raw run that `run` means, as it does to Bluesky's client.

    Analysis runs that an earlier version put among the raw ones are not meant.

    Parameters
    ----------
    client
        Tiled client of the container of raw runs, or of the place of the analysis runs beside it.
    run
        A uid or its first characters, 5 or more; a scan number, of which the latest run is meant; -1 for the last
        run, -2 for the one before. Numbers may be texts; one that is no scan number may begin a uid.

    Raises
    ------
    SettingsError
        When no run is meant, or several.
    StoreUnavailableError, StoreRefusedError
        When Tiled does not answer.
    """
    check_container(client)
    if isinstance(run, bool) or not isinstance(run, str | int):
        raise SettingsError(f"a run is named by a text or a number, not by {run!r}")
    with told_apart(f"looking for the run {run!r}"):
        runs = _raw_runs(client)
        if isinstance(run, int):
            return _by_number(runs, run)
        if len(run) == _UID_LENGTH and (exact := runs.get(run)) is not None:
            return str(exact.metadata["start"]["uid"])
        if _NUMBER.fullmatch(run):
            try:
                return _by_number(runs, int(run))
            except SettingsError:
                if run.startswith("-") or len(run) < SHORTEST_UID:
                    raise
        return _by_part_of_uid(runs, run)


def raw_container(client: Any) -> Container:
    """Return a plain client of the container of raw runs; of a place of analysis runs, of the one beside it.

    Of what was searched in a container, the client is of all that lies there.

    Raises
    ------
    SettingsError
        When there is none beside a place, or its name does not say which one.
    Exception
        What Tiled's client raises.
    """
    if PLACE_SPEC not in {spec.name for spec in client.specs}:
        return plain(client)
    own = client.path_parts[-1]
    key = own.removesuffix(ANNOTATIONS_SUFFIX)
    beside = None if key == own else plain(client.parent).get(key)
    if beside is None:
        where = client.uri.partition("?")[0]
        raise SettingsError(
            f"{where} does not say which raw runs its annotations are of: its name has no {ANNOTATIONS_SUFFIX} at "
            "its end; give the container of raw runs"
            if key == own
            else f"no container {key!r} of raw runs lies beside {where}; give that of the raw runs"
        )
    return plain(beside)


def raw_containers(client: Any) -> list[Container]:
    """Return plain clients of all containers of raw runs whose annotations are meant by a client.

    That of `raw_container`; of what has no place beside it, such as a server's root, those of the places in it.

    Raises
    ------
    SettingsError
        As `raw_container`, of any of them; as `places_in`.
    Exception
        What Tiled's client raises.
    """
    places = [client] if find_place(client) is not None else places_in(client)
    return [raw_container(place) for place in places or [client]]


def _raw_runs(client: Any) -> Container:
    is_raw = KeyPresent("start.analysis.kind", exists=False)
    return raw_container(client).search(KeyPresent("start.uid")).search(is_raw)


def _by_number(runs: Container, number: int) -> str:
    if number > 0:
        # The keys view of Tiled's client cannot be asked for its last.
        found = [
            str(run.metadata["start"]["uid"])
            for run in runs.search(Key("start.scan_id") == number).values().tail(1)
        ]
        if not found:
            raise SettingsError(
                f"no raw run has the scan number {number}; name it by its uid, or by -1 for the last one"
            )
        return found[0]
    try:
        return str(runs.values()[number].metadata["start"]["uid"])
    except IndexError:
        raise SettingsError(f"there is no run {number}: the catalog has {len(runs)} raw runs") from None


def _by_part_of_uid(runs: Container, part: str) -> str:
    if len(part) < SHORTEST_UID or not _PART_OF_UID.fullmatch(part):
        raise SettingsError(
            f"{part!r} names no run: give its uid or the first {SHORTEST_UID} characters of that or more, its scan "
            "number, or -1 for the last one"
        )
    found = _uids(runs.search(Like("start.uid", f"{part}%")), 2)
    if not found:
        raise SettingsError(
            f"there is no raw run with the uid {part!r}; is the catalog the one of its beamline?"
        )
    if len(found) > 1:
        raise SettingsError(f"several raw runs have a uid that begins with {part!r}: give more of it")
    return found[0]


def _uids(runs: Container, most: int) -> list[str]:
    return [str(run.metadata["start"]["uid"]) for run in runs.values().head(most)]
