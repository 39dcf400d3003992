"""Finds out within seconds why a Kafka cluster cannot be reached: the client's own library only says that it cannot.

kafka-python tries without end, and in silence, to speak TLS to a port that does not; what it says of a name with a
slip in it is what it says of a cluster that is down.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from dvfb_stream.daemon.settings import KafkaSettings

SECONDS_TO_ANSWER = 5.0
"""For each step: a broker in the same house answers in milliseconds, one that has just started in a second."""

_API_VERSIONS, _CORRELATION = 18, 0x64766662
"""A request that every broker answers before anybody logs in, and a number by which its answer is known."""
_TLS_RECORDS = (0x15, 0x16)
"""First byte of an alert, and of a handshake: what a TLS port says to one who does not speak it."""
_WITH_TLS = {"PLAINTEXT": "SSL", "SASL_PLAINTEXT": "SASL_SSL"}
_WITHOUT_TLS = {with_tls: without for without, with_tls in _WITH_TLS.items()}


class Obstacle(StrEnum):
    """What stands between us and a broker."""

    UNKNOWN_NAME = "unknown name"
    NOBODY_LISTENS = "nobody listens"
    SILENT = "silent"
    NO_TLS = "no TLS"
    UNTRUSTED = "untrusted"
    WANTS_TLS = "wants TLS"
    NOT_KAFKA = "not Kafka"

    @property
    def passes(self) -> bool:
        """Whether it may go away by itself; others are mended in a configuration."""
        return self in (Obstacle.UNKNOWN_NAME, Obstacle.NOBODY_LISTENS, Obstacle.SILENT)


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Why one server cannot be reached."""

    server: str
    obstacle: Obstacle
    reason: str
    """What was seen, and what to do."""

    def __str__(self) -> str:
        return f"{self.server}: {self.reason}"


def why_unreachable(settings: KafkaSettings) -> list[Unreachable]:
    """Return what stands between us and each server of a cluster; empty as soon as one of them answers.

    Whether it lets us in is not asked.
    """
    found = []
    for server in settings.bootstrap_servers:
        obstacle = _obstacle(server, settings)
        if obstacle is None:
            return []
        found.append(obstacle)
    return found


def _obstacle(server: str, settings: KafkaSettings) -> Unreachable | None:
    host, _, port = server.rpartition(":")
    try:
        connection = socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_ANSWER)
    except socket.gaierror:
        return Unreachable(
            server,
            Obstacle.UNKNOWN_NAME,
            f"there is no machine {host!r}; is its name right, and does DNS work?",
        )
    except ConnectionRefusedError:
        return Unreachable(
            server, Obstacle.NOBODY_LISTENS, "nobody listens there; is the port right, and is the broker up?"
        )
    except OSError as error:
        return Unreachable(
            server,
            Obstacle.SILENT,
            f"no connection ({error.strerror or error}); is the address right, and is the network up?",
        )
    with connection:
        if settings.security_protocol in _WITHOUT_TLS:
            return _tls_obstacle(connection, server, settings)
        return _plain_obstacle(connection, server, settings.security_protocol)


def _tls_obstacle(connection: socket.socket, server: str, settings: KafkaSettings) -> Unreachable | None:
    host = server.rpartition(":")[0].strip("[]")
    try:
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
    except OSError as error:
        return Unreachable(
            server,
            Obstacle.UNTRUSTED,
            f"kafka.ssl_cafile {settings.ssl_cafile} cannot be read ({error.strerror or error}); it must be PEM",
        )
    try:
        context.wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return Unreachable(
            server,
            Obstacle.UNTRUSTED,
            f"its certificate is not trusted ({error.verify_message}); name the authority's in kafka.ssl_cafile, and "
            "the host as the certificate has it",
        )
    except OSError as error:
        protocol = settings.security_protocol
        if isinstance(error, TimeoutError) and not _answers_in_the_clear(server, protocol):
            return Unreachable(
                server,
                Obstacle.SILENT,
                f'it says nothing to TLS (kafka.security_protocol = "{protocol}"); is this its TLS port, and is it '
                "well?",
            )
        return Unreachable(
            server,
            Obstacle.NO_TLS,
            f"it does not speak TLS ({getattr(error, 'reason', None) or error}), and kafka.security_protocol is "
            f'"{protocol}"; give its TLS port, or use "{_WITHOUT_TLS[protocol]}"',
        )
    return None


def _answers_in_the_clear(server: str, protocol: str) -> bool:
    host, _, port = server.rpartition(":")
    try:
        connection = socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_ANSWER)
    except OSError:
        return False
    with connection:
        return _plain_obstacle(connection, server, _WITHOUT_TLS[protocol]) is None


def _plain_obstacle(connection: socket.socket, server: str, protocol: str) -> Unreachable | None:
    """Ask which requests it knows, and return what is wrong with the answer."""
    client = b"dvfb"
    request = struct.pack(">hhih", _API_VERSIONS, 0, _CORRELATION, len(client)) + client
    answer, begun = b"", time.monotonic()
    with suppress(OSError):
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = connection.recv(8, socket.MSG_WAITALL)
    if len(answer) == 8 and answer[4:] == struct.pack(">i", _CORRELATION):
        return None
    if answer and answer[0] in _TLS_RECORDS:
        return Unreachable(
            server,
            Obstacle.WANTS_TLS,
            f'it wants TLS, and kafka.security_protocol is "{protocol}"; use "{_WITH_TLS[protocol]}", or give its '
            "plain port",
        )
    if answer:
        return Unreachable(
            server, Obstacle.NOT_KAFKA, f"what answers is not Kafka ({answer!r}); is the port right?"
        )
    if time.monotonic() - begun >= SECONDS_TO_ANSWER:
        return Unreachable(
            server, Obstacle.SILENT, "it takes the connection and says nothing; is it Kafka, and is it well?"
        )
    return Unreachable(
        server,
        Obstacle.SILENT,
        "it ends the connection; is it just starting, is it Kafka, or does it want TLS "
        f'(kafka.security_protocol = "{_WITH_TLS[protocol]}")?',
    )
