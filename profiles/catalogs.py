"""The catalog of a session: a Tiled server elsewhere, or one inside this process that ends when the process does."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from tiled.queries import KeyPresent

from dvfb_stream.catalog import connect, embedded_server
from dvfb_stream.catalog.place import CATALOG_SPECS, found_or_created
from dvfb_stream.errors import SettingsError
from dvfb_stream.profiles.beamline_description import CATALOG_VARIABLE, Beamline

logger = logging.getLogger(__name__)

RAW = "raw"
"""Key of the container of raw runs in a folder's catalog."""


@contextmanager
def open_catalog(beamline: Beamline) -> Iterator[Any]:
    """Give a client of the beamline's catalog, while the context lasts; TILED_URI wins over its description.

    Raises
    ------
    SettingsError
        When the server does not answer, or the folder cannot be served.
    """
    described = beamline.description.catalog
    uri = catalog_address(beamline)
    if uri:
        client = connect(uri)
        with closing(client.context):
            yield client
    else:
        assert described.folder is not None  # the description saw to it
        with served_folder(beamline.path.parent / described.folder.expanduser()) as client:
            yield client


def catalog_address(beamline: Beamline) -> str | None:
    """Return the address of the beamline's catalog; None where it is a folder."""
    return os.environ.get(CATALOG_VARIABLE) or beamline.description.catalog.uri


def spool_folder(beamline: Beamline) -> Path | None:
    """Return where rows are until the beamline's catalog has them; None: where the catalog's address says."""
    described = beamline.description.catalog
    if described.spool is not None:
        return beamline.path.parent / described.spool.expanduser()
    if os.environ.get(CATALOG_VARIABLE) or described.folder is None:
        return None
    # A server of this process has another address each time.
    return beamline.path.parent / described.folder.expanduser() / "spool"


@contextmanager
def served_folder(folder: Path) -> Iterator[Any]:
    """Serve a folder by an embedded Tiled server, which no other process does meanwhile, and give a client.

    The client is of the raw runs in ``/raw``; annotations lie beside them in ``/raw_annotations``. In a folder that
    an earlier version has filled, runs lie in the root: then it is of that, until `dvfb catalog move` was called.

    Raises
    ------
    SettingsError
        When another process serves it, or it cannot be written to.
    """
    with served_root(folder) as root:
        holds_runs = len(root.search(KeyPresent("start")).keys().head(1)) > 0
        yield root if holds_runs else found_or_created(root, RAW, specs=CATALOG_SPECS)


@contextmanager
def served_root(folder: Path) -> Iterator[Any]:
    """Serve a folder as `served_folder` does, and give a client of its root.

    Raises
    ------
    SettingsError
        When another process serves it, or it cannot be written to.
    """
    with lock_folder(folder), embedded_server(folder) as root:
        yield root


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep other processes from serving a folder, which is made where there is none.

    Raises
    ------
    SettingsError
        When another process serves it, or it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise SettingsError(f"the catalog {folder} cannot be written to: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            # Its tables are DuckDB's, which one process may open; Tiled's client would retry for 45 s.
            raise SettingsError(
                f"the catalog {folder} is served by another process; end that one, or use another folder"
            ) from None
        yield


def last_scan_id(client: Any) -> int:
    """Return the highest scan number among the runs of a catalog, 0 where there are none.

    A RunEngine that starts from it does not give a number again: ``RunEngine({"scan_id": last_scan_id(catalog)})``.
    """
    numbers = client.distinct("start.scan_id")["metadata"]["start.scan_id"]
    return max((entry["value"] for entry in numbers if isinstance(entry["value"], int)), default=0)


def close_before_exit(opened: ExitStack) -> None:
    """Close what is in `opened` as soon as the main thread has ended, before Python waits for other threads.

    The embedded server's thread is not a daemon: Python waits for it, and only then calls what `atexit` knows,
    so closing it there would come too late and the process would hang. Processes of `multiprocessing`, such as
    the worker of the queue server, never call `atexit` at all.
    """

    def close() -> None:
        threading.main_thread().join()
        try:
            opened.close()
        except Exception:  # nobody is left to catch it
            logger.exception("closing the session failed")

    threading.Thread(target=close, name="dvfb-close", daemon=False).start()
