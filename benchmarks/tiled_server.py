"""A real ``tiled serve`` of its own, in a process that can be killed, halted and looked at.

One that ends by itself is started again, as a beamline's would be, and that is counted: on DuckDB Tiled 0.2.20 gives
all requests one connection, and two at a time may end the process.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

SECONDS_TO_START = 300.0
TABLES: dict[str, Any] = {
    "choices": ("postgresql", "duckdb"),
    "default": "postgresql",
    "help": "where Tiled keeps tables",
}
"""Option of a benchmark's command."""
_IN_MEMORY = "/dev/shm"
PASSWORD = "secret"


class TiledServer:
    """A catalog on SQLite, with tables in DuckDB or PostgreSQL. Started again, it has its port and its data.

    Parameters
    ----------
    folder
        Where everything lies.
    with_users
        Served with an authenticator, which knows the user ``writer``; `api_key` makes keys for them. Otherwise
        there is one key, `key`.
    readable
        Folders with files that it may serve besides. Not with users.
    tables
        Address of the database for tables; None: a file of DuckDB.
    """

    def __init__(
        self,
        folder: Path,
        *,
        with_users: bool = False,
        readable: Sequence[Path] = (),
        tables: str | None = None,
    ) -> None:
        self._folder = folder
        self._readable = readable
        self._tables = tables or f"duckdb:///{folder / 'tables.duckdb'}"
        self._changing = threading.RLock()
        self.ended_by_itself = 0
        """How often, until now."""
        self._with_users = with_users
        self.key = secrets.token_hex(16)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "data").mkdir(parents=True, exist_ok=True)

    @property
    def address(self) -> str:
        """Of its API."""
        return f"http://127.0.0.1:{self.port}/api/v1"

    def start(self) -> None:
        """Start, and wait until it answers."""
        with self._changing:
            self._start()

    def _start(self) -> None:
        tables, data = self._tables, str(self._folder / "data")
        catalog = f"sqlite:///{self._folder / 'catalog.db'}"
        if self._with_users:
            stored = {"uri": catalog, "writable_storage": [data, tables], "init_if_not_exists": True}
            configuration = {
                "trees": [{"tree": "catalog", "path": "/", "args": stored}],
                "authentication": {
                    "secret_keys": [self.key],
                    "providers": [
                        {
                            "provider": "house",
                            "authenticator": "tiled.authenticators:DictionaryAuthenticator",
                            "args": {"users_to_passwords": {"writer": PASSWORD}},
                        }
                    ],
                },
                "database": {
                    "uri": f"sqlite:///{self._folder / 'users.db'}",
                    "init_if_not_exists": True,
                },
            }
            path = self._folder / "configuration.yml"
            path.write_text(json.dumps(configuration))  # which is YAML, too
            arguments = ["config", str(path)]
        else:
            arguments = ["catalog", catalog, "--init", "--write", data, "--write", tables]
            arguments += [part for path in self._readable for part in ("--read", str(path))]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tiled", "serve", *arguments, "--port", str(self.port)],
                stdout=log,
                stderr=log,
                env=os.environ | ({} if self._with_users else {"TILED_SINGLE_USER_API_KEY": self.key}),
            )
        deadline = time.monotonic() + SECONDS_TO_START
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._folder / "server.log").read_text()[-2000:])
            time.sleep(0.1)

    def kill(self) -> None:
        """End it at once."""
        with self._changing:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
                self._process = None

    def watch(self, over: threading.Event) -> None:
        """Start it again whenever it has ended by itself, until `over`."""
        while not over.wait(0.2):
            with self._changing:
                if self._process is not None and self._process.poll() is not None:
                    self.ended_by_itself += 1
                    self._start()

    def halt(self) -> None:
        """Have it hang: connections are taken, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process is not None
        return self._process.pid

    def api_key(self, scopes: Sequence[str] | None = None) -> dict[str, Any]:
        """Make a key with these scopes, None: all of the user's; returned with ``secret`` and ``first_eight``."""
        made = self._as_user(
            "POST", "/auth/apikey", json={"expires_in": None, "scopes": scopes or ["inherit"]}
        )
        return dict(made.json())

    def revoke(self, first_eight: str) -> None:
        """Revoke a key."""
        self._as_user("DELETE", "/auth/apikey", params={"first_eight": first_eight})

    def _as_user(self, method: str, path: str, **how: Any) -> httpx.Response:
        login = httpx.post(
            f"{self.address}/auth/provider/house/token", data={"username": "writer", "password": PASSWORD}
        ).raise_for_status()
        token = login.json()["access_token"]
        answer = httpx.request(
            method, f"{self.address}{path}", headers={"Authorization": f"Bearer {token}"}, **how
        )
        return answer.raise_for_status()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz", timeout=5.0).is_success
        except httpx.HTTPError:
            return False


@contextmanager
def serving(
    folder: Path | None = None,
    *,
    with_users: bool = False,
    readable: Sequence[Path] = (),
    tables: str = "duckdb",
) -> Iterator[TiledServer]:
    """Serve a new catalog in a folder, a temporary one by default.

    The rest is as for `TiledServer`, but for `tables`: ``duckdb``; ``postgresql``, a server of which is started; or
    the address of one. With users, it writes to SQLite at every request: the temporary folder is in memory then.
    """
    over = threading.Event()
    with ExitStack() as stack:
        where = _IN_MEMORY if with_users and os.path.isdir(_IN_MEMORY) else None
        folder = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(dir=where)))
        address = tables if "://" in tables else None
        if tables == "postgresql":
            from tests.catalog.tiled_process import postgresql

            address = f"postgresql://{stack.enter_context(postgresql())}/postgres"
        server = TiledServer(folder, with_users=with_users, readable=readable, tables=address)
        watching = threading.Thread(target=server.watch, args=(over,), daemon=True)
        try:
            server.start()
            watching.start()
            yield server
        finally:
            over.set()
            server.kill()


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def processor_seconds_of(pid: int) -> float:
    """Return the processor's time that a process has taken, of itself and for the system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes_of(pid: int) -> int:
    """Return the memory that a process has, as the system counts it."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
