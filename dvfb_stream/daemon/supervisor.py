"""Tells systemd that a daemon has started, turns, and stops (``Type=notify``, ``WatchdogSec=``)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

VARIABLE = "NOTIFY_SOCKET"
"""Environment variable with the address of systemd's socket; of an abstract one, ``@`` stands for the zero byte."""

READY = "READY=1"
TURNS = "WATCHDOG=1"
STOPS = "STOPPING=1"


def tell_supervisor(*states: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Send states to systemd; return whether there was somebody to tell."""
    address = environment.get(VARIABLE)
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
        sending.sendto("\n".join(states).encode(), address)
        return True
    return False
