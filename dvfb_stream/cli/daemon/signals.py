"""What signals do to a daemon: SIGTERM and SIGINT stop it, SIGHUP is refused with what to do instead."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

logger = logging.getLogger(__name__)


def refuse_reload(config: Path, number: int, frame: FrameType | None) -> None:
    """Say on a thread of its own, as a signal may come in the middle of a line of the log, what to do instead."""
    threading.Thread(target=_say_how_to_reload, args=(config,), name="dvfb-sighup", daemon=True).start()


def _say_how_to_reload(config: Path) -> None:
    from dvfb_stream.daemon.settings import read_settings
    from dvfb_stream.errors import DvfbError

    try:
        read_settings(config)
        found = f"{config}, as it is now, is valid"
    except DvfbError as error:
        found = f"do not yet: {error}"
    logger.warning(
        "SIGHUP changes nothing: a daemon reads its configuration when it starts. Restart it, nothing is lost (%s)",
        found,
    )


def stop_on_signals(*told: Callable[[], object]) -> None:
    """Call all of `told` at the first of SIGTERM and SIGINT; the second one ends the process at once."""
    signals = (signal.SIGTERM, signal.SIGINT)

    def stop(number: int, frame: FrameType | None) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_DFL)
        for tell in told:
            tell()

    for each in signals:
        signal.signal(each, stop)
