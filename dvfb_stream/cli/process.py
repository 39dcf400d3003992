"""What the command settles once for all others: its signals, the text it can write, how it ends."""

from __future__ import annotations

import codecs
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from dvfb_stream.waiting_threads import sleep_while_waiting

FAILED, CALLED_WRONGLY, SIGNALLED = 1, 2, 128
"""Exit statuses; after a signal, by the shell's convention, `SIGNALLED` and its number."""
INTERRUPTED = tuple(SIGNALLED + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM))

SECONDS_TO_END = 3.0
"""What an interrupted command has to clear up, before it is ended as it is: whoever pressed Ctrl-C waits, and
batch systems send SIGKILL some seconds after SIGTERM."""

COLLECT_AFTER = 50_000
"""Objects that are made before garbage is looked for among them; Python's own choice is 700. What a command imports
stays; going through it again and again takes a seventh of the time until torch is there, a fifth with Tiled's
server."""

LOOKALIKES = {"●": "*", "━": "-", "─": "-", "·": "-", "−": "-", "–": "-", "…": "...", "×": "x", "λ": "lambda",
              "α": "alpha", "γ": "gamma", "Ψ": "Psi", "√": "sqrt", "é": "e", "≥": ">=", "≤": "<="}  # fmt: skip
"""What is written instead where the terminal's encoding does not have a character."""


def run_to_the_end(command: Callable[[], int]) -> int:
    """Return the exit status of a command, whatever ends it; errors are one line on stderr.

    Parameters
    ----------
    command
        Returns an exit status. All that takes time is imported in it, so that Ctrl-C is heard meanwhile.
    """
    sleep_while_waiting()
    collected_after = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER)
    try:
        return _run_to_the_end(command)
    finally:
        gc.set_threshold(*collected_after)


def _run_to_the_end(command: Callable[[], int]) -> int:
    _open_standard_streams()
    codecs.register_error("dvfb", _lookalike)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # a test's or a notebook's own
            stream.reconfigure(errors="dvfb")  # type: ignore[union-attr]
    with Signals() as signals:
        try:
            status = command()
            sys.stdout.flush()
        except BaseException as error:  # noqa: BLE001 - what is no error of the user's is raised again
            status = signals.status() or _status_of(error)
        if signals.number is not None:
            status = signals.status()
        if status in INTERRUPTED:
            _say("interrupted")
            with suppress(OSError, ValueError):
                sys.stdout.flush()
        return status


class Signals:
    """Makes SIGINT, SIGTERM and SIGHUP end what runs inside within `SECONDS_TO_END`; the second ends it at once.

    The first is raised as KeyboardInterrupt, so that files and processes are cleared up. Where that takes too long,
    or where the interpreter is in a library's code and hears nothing, a thread ends the process; its children watch
    for that and end too. A command that installs handlers of its own is left alone.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.number: int | None = None
        self._ended = threading.Event()
        self._before: dict[int, object] = {}

    def status(self) -> int:
        """Return the exit status after the signal that came; 0 where none did."""
        return 0 if self.number is None else SIGNALLED + self.number

    def __enter__(self) -> Signals:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in self.SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a shell's background
                self._before[number] = signal.signal(number, self._heard)
        self._reading, self._writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self._reading, True)
        self._wakeup = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, name="dvfb-signals", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if not self._before:
            return
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._writing)
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)
        raise KeyboardInterrupt

    def _watch(self) -> None:
        while heard := os.read(self._reading, 1):
            number = heard[0]
            ours = self.number == number or signal.getsignal(number) == self._heard
            if ours and not self._ended.wait(SECONDS_TO_END):
                _say("interrupted")
                os._exit(SIGNALLED + number)
        os.close(self._reading)


def _status_of(error: BaseException) -> int:
    """Say what went wrong in one line and return the exit status; what is a fault of ours is raised again."""
    from dvfb_stream.errors import DvfbError

    if isinstance(error, DvfbError):
        _say(str(error))
        return FAILED
    if isinstance(error, KeyboardInterrupt):  # raised by a library's own handler
        return SIGNALLED + signal.SIGINT
    if isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError):
        _discard_stdout()
        return SIGNALLED + signal.SIGPIPE
    if isinstance(error, SystemExit):
        return int(error.code or 0)
    if isinstance(error, OSError):
        _discard_stdout()
        _say(f"{error.filename or 'input or output failed'}: {error.strerror or error}")
        return FAILED
    if isinstance(error, MemoryError):
        _say(f"out of memory; try a smaller --batch-size or fewer frames ({error})")
        return FAILED
    raise error


def _say(message: str) -> None:
    with suppress(OSError, ValueError):
        sys.stderr.write("dvfb: error: " + " ".join(message.split()) + "\n")
        sys.stderr.flush()


def _open_standard_streams() -> None:
    """Put /dev/null where stdin, stdout or stderr is closed: else the next file opened would be taken for it."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _discard_stdout() -> None:
    """Keep Python from complaining once more, while it flushes stdout at its exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _lookalike(error: UnicodeError) -> tuple[bytes, int]:
    """Encode what a stream's encoding cannot: a file name's own bytes, a similar character, or an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    written = bytearray()
    for character in error.object[error.start : error.end]:
        if "\udc80" <= character <= "\udcff":  # os.fsdecode's sign for a byte that is no UTF-8
            written.append(ord(character) - 0xDC00)
        else:
            written += LOOKALIKES.get(character, character).encode("ascii", "backslashreplace")
    return bytes(written), error.end
