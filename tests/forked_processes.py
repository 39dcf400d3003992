"""Processes that are forked from one which has imported what they need: an interpreter takes five seconds to do so.

They are real processes, to be killed, interrupted and waited for; what they print goes to files. How an interpreter
starts, and what it imports when, is the matter of tests that start one.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import unittest.mock
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from multiprocessing import Pipe, forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

from dvfb_stream.isolation.child_process import _begun, _environment

IMPORTED = (
    "torch",
    "dvfb_stream.annotator",
    "dvfb_stream.callbacks.live",
    "dvfb_stream.catalog.store",
    "dvfb_stream.cli.app",
    "dvfb_stream.cli.daemon.command",
    "dvfb_stream.history.annotating",
    "dvfb_stream.history.run_service",
    "dvfb_stream.history.settings",
    "dvfb_stream.isolation.annotator_service",
    "dvfb_stream.isolation.files_service",
    "dvfb_stream.kafka.daemon",
    "dvfb_stream.tiled_stream.daemon",
    "pytest",
    "tiled.adapters.sql",
    "tiled.adapters.zarr",
    "tiled.catalog.adapter",
    "tiled.commandline._serve",
    "tiled.commandline.main",
    "tiled.server.app",
)
"""What takes long. Threads that a fork would not have are started by pyarrow and blosc2, which start them again."""
VARIABLES = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""Read when these are imported, so alike for all processes."""


@cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*IMPORTED, __name__])
    with unittest.mock.patch.dict(os.environ, VARIABLES):
        forkserver.ensure_running()
    atexit.register(_end_all)  # before multiprocessing waits for them
    return context


def _end_all() -> None:
    for process in multiprocessing.active_children():
        process.kill()


class ForkedProcess:
    """Runs a function in a process of its own; waited for and told to end as a `subprocess.Popen` is.

    Parameters
    ----------
    run
        A function of a module, and its arguments; what it returns or raises is the exit status, as of a script.
    environment
        All of it.
    stdout, stderr
        Files that are written anew; None: as this process has them.
    cwd
        None: as this process has it.
    """

    def __init__(
        self,
        run: Callable[..., object],
        *arguments: object,
        environment: Mapping[str, str] | None = None,
        stdout: Path | None = None,
        stderr: Path | None = None,
        cwd: Path | None = None,
    ) -> None:
        settled = {**os.environ, **(environment or {})}
        files = (stdout, stderr)
        for path in filter(None, files):
            path.write_bytes(b"")
        self._process = _server().Process(
            target=_run, args=(run, arguments, settled, files, str(cwd or Path.cwd()))
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        """Return the exit status, or the negative number of the signal that ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (status := self.poll()) is None:
            raise subprocess.TimeoutExpired(str(self._process), timeout or 0.0)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def dvfb(*words: object, **settings: Any) -> ForkedProcess:
    """Run the command ``dvfb`` with these words."""
    return ForkedProcess(_command, [str(word) for word in words], **settings)


def service(memory: int, variables: Mapping[str, str]) -> tuple[Any, Connection]:
    """Begin a process of `dvfb_stream.isolation` as `child_process` does, but for the interpreter.

    With limits, which come with variables, it has an interpreter of its own: memory that is here is not there.
    """
    if variables:
        return _begun(memory, variables)
    ours, theirs = Pipe()
    with theirs:
        return ForkedProcess(_service, theirs, DupFd(memory), DupFd(2), environment=_environment()), ours


def module(name: str, *words: object, **settings: Any) -> ForkedProcess:
    """Run a module as a script with these words."""
    return ForkedProcess(_module, name, [str(word) for word in words], **settings)


def _command(words: Sequence[str]) -> None:
    from dvfb_stream.cli import main

    sys.argv = ["dvfb", *words]
    main()


def _service(connection: Connection, memory: Any, errors: Any) -> None:
    from dvfb_stream.isolation.__main__ import main

    os.setpgid(0, 0)
    os.dup2(errors.detach(), 2)
    main(os.dup(connection.fileno()), memory.detach())


def _module(name: str, words: Sequence[str]) -> None:
    sys.argv = [name, *words]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _run(
    run: Callable[..., object],
    arguments: Sequence[object],
    environment: Mapping[str, str],
    files: tuple[Path | None, Path | None],
    cwd: str,
) -> None:
    threading.Thread(target=_end_with_the_tests, name="end-with-the-tests", daemon=True).start()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.path[:0] = [
        path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path not in sys.path
    ]
    for number, path in zip((1, 2), files, strict=True):
        if path is not None:
            written = os.open(path, os.O_WRONLY | os.O_APPEND)
            os.dup2(written, number)
            os.close(written)
    try:
        run(*arguments)
    finally:
        # As an interpreter ends: multiprocessing's own end runs no handlers but its own.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()


def _end_with_the_tests() -> None:
    """End this process when the one that runs the tests is gone, however it ended: a server would stay for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)
