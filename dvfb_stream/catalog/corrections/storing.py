"""Stores runs of corrections: each wholly or not at all, once, and only what was read back counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bluesky_tiled_plugins.utils import truncate_json_overflow
from tiled.client.container import Container
from tiled.client.utils import MSGPACK_MIME_TYPE, ClientError, handle_error, retry_context
from tiled.structures.core import Spec

from dvfb_stream.catalog.answers import told_apart
from dvfb_stream.catalog.corrections.corrections_place import CORRECTION_SPEC, path_of
from dvfb_stream.catalog.corrections.documents import stop_of
from dvfb_stream.catalog.corrections.pages import address_of
from dvfb_stream.catalog.storable import storable
from dvfb_stream.catalog.store_errors import StoreRefusedError, StoreUnavailableError

_SPECS = (Spec(CORRECTION_SPEC, version="1.0"), Spec("BlueskyRun", version="3.0"))
_CONFLICT, _NOT_FOUND = 409, 404
_TRIES = 3


def store_run(place: Container, start: Mapping[str, Any], access_tags: Sequence[str] = ()) -> None:
    """Store a run; when this returns, it was read back.

    A run is one node, which Tiled makes in one step, under its uid: a request that is sent again because its answer
    was lost finds it there.

    Parameters
    ----------
    place
        Plain Tiled client of the container of corrections.
    start
        Start document; its uid was chosen before the first try.
    access_tags
        Of those who may see it.

    Raises
    ------
    StoreUnavailableError
        When it is not certain that it is stored. It may be.
    StoreRefusedError
        When it never will be.
    """
    uid = start["uid"]
    metadata = truncate_json_overflow(
        storable(f"the correction {uid}", {"start": start, "stop": stop_of(start)})
    )
    try:
        for last in (*[False] * (_TRIES - 1), True):
            try:
                with told_apart(f"storing the correction {uid}"):
                    _make(place, uid, metadata, access_tags)
                    if _is_there(place, uid, metadata):
                        return
                    raise StoreUnavailableError(f"the correction {uid} was not there when it was read back")
            except StoreUnavailableError:
                if last:
                    raise
    except StoreRefusedError as error:
        if not error.everything:
            raise
        where = "/".join(path_of(place))
        cure = f"give TILED_API_KEY a key that may read and create in {where}"
        raise StoreRefusedError(error.reason, everything=True, cure=cure) from error


def _make(place: Container, uid: str, metadata: Mapping[str, Any], access_tags: Sequence[str]) -> None:
    try:
        place.create_container(
            key=uid, metadata=metadata, specs=_SPECS, access_tags=list(access_tags) or None
        )
    except ClientError as error:
        if error.response.status_code != _CONFLICT:
            raise


def _is_there(place: Container, uid: str, metadata: Mapping[str, Any]) -> bool:
    for attempt in retry_context(place.context):
        with attempt:
            response = place.context.http_client.get(
                address_of(place.context, "metadata", (*path_of(place), uid)),
                headers={"Accept": MSGPACK_MIME_TYPE},
                params={"fields": ["metadata"]},
            )
            if response.status_code == _NOT_FOUND:
                return False
            there = handle_error(response).json()["data"]["attributes"]["metadata"]
    if there["start"]["correction"] != metadata["start"]["correction"]:
        raise StoreRefusedError(f"another correction has the uid {uid}", everything=False)
    return True
