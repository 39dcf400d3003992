"""Notes of finished analysis runs that changed, by which a copy of their container is brought up to date.

New runs come behind those that were listed, and runs without a stop are looked at again. For what changes behind a
stop, all runs would have to be looked at, of which there may be a million.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from dvfb_stream.catalog.place import LEASES_SUFFIX, found_or_created, plain

if TYPE_CHECKING:
    from tiled.client.container import Container

_KEY = "changes"
"""Of the container of notes, among what writers need."""


def note_change(leases: Container, uid: str) -> None:
    """Note that an analysis run is not what it was.

    Of a run that is to have a new stop, before that is stored: who reads the note then sees the new run, or one
    without a stop, which is looked at again. Otherwise, behind the change.

    Parameters
    ----------
    leases
        Plain Tiled client of the container of what writers need.
    uid
        Of the run.

    Raises
    ------
    Exception
        What Tiled's client raises.
    """
    notes = plain(found_or_created(leases, _KEY, specs=[]))
    notes.create_container(key=uuid.uuid4().hex, metadata={"run": uid})


def notes_beside(address: str) -> str:
    """Return the address of the notes from that of a container of analysis runs, each with the uid of a run."""
    return f"{address}_{LEASES_SUFFIX}/{_KEY}"
