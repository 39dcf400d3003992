"""Looks at everything that a configuration names before a daemon needs it, and changes none of it."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dvfb_stream.daemon.settings import DaemonSettings
from dvfb_stream.daemon.store_reach import StoreReach
from dvfb_stream.errors import DvfbError, SettingsError
from dvfb_stream.files.run_detector import RunDetector
from dvfb_stream.frames import Geometry


class Outcome(StrEnum):
    """What a check came to."""

    OK = "ok"
    NOTICE = "notice"
    """A daemon runs with it; somebody should know."""
    FAULT = "fault"
    """A daemon would not run, or not do its work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one part."""

    part: str
    outcome: Outcome
    what: str
    """What is there, or what is wrong and what to do."""


Check = Callable[[], Iterable[Finding]]


def ok(part: str, what: str) -> Finding:
    """Return a finding that is as it should be."""
    return Finding(part, Outcome.OK, what)


def notice(part: str, what: str) -> Finding:
    """Return a finding that somebody should know."""
    return Finding(part, Outcome.NOTICE, what)


def fault(part: str, what: str) -> Finding:
    """Return a finding that keeps a daemon from its work."""
    return Finding(part, Outcome.FAULT, what)


def found_by(checks: Mapping[str, Check]) -> Iterator[Finding]:
    """Make checks one after another; what one raises is its finding, and the others go on.

    Parameters
    ----------
    checks
        By the part that they are of.
    """
    for part, check in checks.items():
        try:
            yield from check()
        except DvfbError as error:
            yield fault(part, " ".join(str(error).split()))
        except Exception as error:  # noqa: BLE001 - the next checks are wanted, whatever a library raises in this one
            yield fault(part, " ".join(f"{type(error).__name__}: {error}".split()))


def checks_of(settings: DaemonSettings, detectors: Mapping[str, Geometry | RunDetector]) -> dict[str, Check]:
    """Return the checks of all parts but the broker's, the slow ones last."""
    checks: dict[str, Check] = {"detectors": lambda: _detectors(detectors)}
    if settings.root_map:
        checks["root_map"] = lambda: _roots(settings.root_map)
    checks["files"] = lambda: _allowed_roots(settings)
    if settings.source is not None:
        uri = settings.source.tiled.uri
        checks["source.tiled"] = lambda: _raw_runs(settings, uri)
    if settings.sinks.tiled is not None:
        store, spool = settings.sinks.tiled.uri, settings.sinks.tiled.spool
        most = settings.sinks.tiled.max_spool_bytes
        checks["sinks.tiled"] = lambda: _store(store)
        checks["spool"] = lambda: _spool(store, spool, most)
    letters = settings.dead_letters.folder
    if letters is not None:
        checks["dead_letters"] = lambda: _folder("dead_letters", letters)
    if settings.sinks.jsonl is not None:
        jsonl = settings.sinks.jsonl
        checks["sinks.jsonl"] = lambda: _file(jsonl)
    if settings.http_port is not None:
        port = settings.http_port
        checks["http"] = lambda: _port(settings.http.address, port)
    if settings.workers.devices:
        checks["workers"] = lambda: _devices(settings.workers.devices)
    checks["model"] = lambda: _model(settings)
    return checks


def _detectors(detectors: Mapping[str, Geometry | RunDetector]) -> Iterator[Finding]:
    if not detectors:
        yield notice("detectors", "none: each frame's row will say which geometry is missing")
    else:
        yield ok("detectors", ", ".join(detectors))


def _roots(roots: Mapping[str, str]) -> Iterator[Finding]:
    for named, here in roots.items():
        part, path = "root_map", Path(here)
        if not path.is_dir():
            yield fault(part, f"{named} is to be at {here}, where no folder is; is it mounted?")
        elif not os.access(path, os.R_OK | os.X_OK):
            yield fault(part, f"{named} is at {here}, which this user may not read")
        else:
            yield ok(part, f"{named} is at {here}")


def _allowed_roots(settings: DaemonSettings) -> Iterator[Finding]:
    if not settings.files.allowed_roots and not settings.root_map:
        yield notice(
            "files",
            "no file will be opened that a document names; where frames lie in files, name their folders in "
            "files.allowed_roots",
        )
    for root in settings.files.allowed_roots:
        if os.access(root, os.R_OK | os.X_OK) and Path(root).is_dir():
            yield ok("files", f"{root} may be read")
        else:
            yield fault("files", f"{root} is no folder that this user may read; is it mounted?")


def _raw_runs(settings: DaemonSettings, uri: str) -> Iterator[Finding]:
    from dvfb_stream.catalog.connection import check_container, connect
    from dvfb_stream.catalog.place import PLACE_SPEC

    _reach("source.tiled", uri)
    client = connect(uri)
    try:
        check_container(client)
        if PLACE_SPEC in {spec.name for spec in client.specs}:
            yield fault("source.tiled", f"{uri} holds annotations; give the container of raw runs beside it")
            return
        yield ok("source.tiled", f"{len(client)} runs in {uri}")
    finally:
        client.context.close()


def _store(uri: str) -> Iterator[Finding]:
    from dvfb_stream.catalog.checking import check_writable
    from dvfb_stream.catalog.connection import connect

    _reach("sinks.tiled", uri)
    client = connect(uri)
    try:
        yield ok(
            "sinks.tiled", f"a row was written, read and deleted; annotations are in {check_writable(client)}"
        )
    finally:
        client.context.close()


def _reach(part: str, uri: str) -> None:
    if trouble := StoreReach(uri).trouble():
        raise SettingsError(f"{uri} {trouble}; is {part}.uri right, and is the server up?")


def _spool(uri: str, folder: Path | None, most: int) -> Iterator[Finding]:
    from dvfb_stream.catalog.spool import folder_for

    path = folder_for(uri) if folder is None else folder
    yield from _folder("spool", path)
    free = shutil.disk_usage(_nearest(path)).free
    if free < most:
        yield notice(
            "spool",
            f"{free / 2**30:.1f} GiB are free there, less than max_spool_bytes {most / 2**30:.1f} GiB",
        )


def _file(path: Path) -> Iterator[Finding]:
    if path.exists() and not os.access(path, os.W_OK):
        yield fault("sinks.jsonl", f"{path} may not be written by this user")
    else:
        yield from _folder("sinks.jsonl", path.parent, make=False)


def _folder(part: str, path: Path, *, make: bool = True) -> Iterator[Finding]:
    path = path.absolute()
    nearest = _nearest(path)
    if nearest != path and not make:
        yield fault(part, f"there is no folder {path}")
        return
    if not nearest.is_dir():
        yield fault(part, f"{nearest} is no folder")
        return
    try:
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(b"dvfb")
    except OSError as error:
        yield fault(part, f"nothing can be written in {nearest}: {error.strerror or error}")
        return
    yield ok(part, f"{path}" if nearest == path else f"{path}, which will be made")


def _nearest(path: Path) -> Path:
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _port(address: str, port: int) -> Iterator[Finding]:
    try:
        socket.create_server((address, port)).close()
    except (OSError, OverflowError) as error:
        # Where a daemon runs by this configuration already, it is the one who listens.
        yield notice("http", f"{address}:{port} is taken ({error}); is this daemon running already?")
    else:
        yield ok("http", f"{address}:{port} is free")


def _devices(devices: Iterable[str]) -> Iterator[Finding]:
    from dvfb_stream.fbt import find_device

    yield ok("workers", "on " + ", ".join(str(find_device(device)) for device in devices))


def _model(settings: DaemonSettings) -> Iterator[Finding]:
    from dvfb_stream.annotator import Annotator
    from dvfb_stream.frame_annotator import as_frame_annotator
    from dvfb_stream.frame_arrays import shapes_of

    annotator = Annotator.load(settings.model, device=settings.device)
    shapes_of(f"the model {annotator.identity}", as_frame_annotator(annotator).arrays, settings.arrays)
    yield ok("model", f"{annotator.identity}, on {annotator.device}")
