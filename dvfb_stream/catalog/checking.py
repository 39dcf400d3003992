"""Finds out whether annotations may be stored beside raw runs, and leaves nothing behind."""

from __future__ import annotations

import uuid
from typing import Any

from dvfb_stream.catalog.answers import told_apart
from dvfb_stream.catalog.place import CATALOG_SPECS, place_of, plain
from dvfb_stream.catalog.store import AnnotationStore
from dvfb_stream.catalog.trial import write_trial_run


def check_writable(client: Any) -> str:
    """Write a run of one row where annotations will lie, read it back, and delete it.

    Where there is no container for annotations yet, it is written into one of another name, which is deleted, too.

    Parameters
    ----------
    client
        Tiled client of a container of raw runs.

    Returns
    -------
    str
        Where annotations lie, or will.

    Raises
    ------
    SettingsError
        When there is no place beside the raw runs.
    StoreUnavailableError, StoreRefusedError
        When Tiled does not answer, or does not let us write.
    """
    place = place_of(client)
    where = place.name.partition("?")[0]
    with told_apart("looking for the container of annotations"):
        found = place.find()
    if found is not None:
        AnnotationStore(client).probe()
        return where
    with told_apart("making a container for a trial"):
        trial = place.parent.create_container(
            key=f"dvfb-check-{uuid.uuid4().hex[:12]}", specs=[*CATALOG_SPECS]
        )
    try:
        with told_apart("writing a trial run"):
            write_trial_run(plain(trial))
    finally:
        with told_apart("deleting the container of a trial"):
            trial.delete(recursive=True, external_only=False)
    return f"{where}, which will be made"
