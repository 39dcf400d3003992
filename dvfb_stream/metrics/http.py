"""Answers a few questions over HTTP, on threads of its own: what Prometheus and supervisors ask."""

from __future__ import annotations

import gzip
import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Thread
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from dvfb_stream.errors import SettingsError

logger = logging.getLogger(__name__)

_SECONDS_FOR_A_REQUEST = 10.0
"""After which a client that sends nothing is let go: each has a thread."""
_WORTH_COMPRESSING = 1_000
"""Bytes: what is shorter fits into one packet as it is."""


@dataclass(frozen=True, slots=True)
class Question:
    """What an answer may depend on, besides its path."""

    query: Mapping[str, list[str]]
    """Values by name."""
    accept: str
    """Of the header of this name: the formats that the client takes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path answers."""

    body: bytes
    content_type: str
    status: HTTPStatus = HTTPStatus.OK


class HttpServer:
    """Answers GET and HEAD of some paths until it is closed, and 404 of all others; there is no authentication.

    Parameters
    ----------
    answers
        By path; called on any thread, each time that the path is asked for.
    address
        Interface to listen on; ``0.0.0.0``: all.
    port
        TCP port; 0: any that is free.
    chosen
        Where address and port are chosen, for a message: ``under [http]``.

    Raises
    ------
    SettingsError
        When nothing can listen there.
    """

    def __init__(
        self,
        answers: Mapping[str, Callable[[Question], Answer]],
        *,
        address: str,
        port: int,
        chosen: str = "",
    ) -> None:
        try:
            self._server = _Server(address, port, partial(_Conversation, answers))
        except (OSError, OverflowError) as error:
            cure = f"choose another port or address {chosen}".rstrip()
            raise SettingsError(f"nothing can listen on {address}:{port}: {error}; {cure}") from error
        self.port = int(self._server.server_port)
        """Where it listens; chosen by the system where 0 was asked for."""
        self._thread = Thread(target=self._server.serve_forever, name="dvfb-http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the server and its thread, and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: str, port: int, conversation: Any) -> None:
        self.address_family, *_, where = socket.getaddrinfo(
            address, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        super().__init__((where[0], port, *where[2:]), conversation)

    def server_bind(self) -> None:
        """Ask no name server what this machine is called, as Python's own does."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("a request of %s failed", client_address, exc_info=True)


class _Conversation(BaseHTTPRequestHandler):
    timeout = _SECONDS_FOR_A_REQUEST

    def __init__(self, answers: Mapping[str, Callable[[Question], Answer]], *request: Any) -> None:
        self._answers = answers
        super().__init__(*request)

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if (answer := self._answers.get(asked.path)) is None:
            told = f"there are {', '.join(self._answers)}\n".encode()
            self._send(Answer(told, "text/plain; charset=utf-8", HTTPStatus.NOT_FOUND))
        else:
            self._send(answer(Question(parse_qs(asked.query), self.headers.get("Accept", ""))))

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Log nothing: Prometheus asks every few seconds."""

    def _send(self, answer: Answer) -> None:
        body = answer.body
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        if len(body) >= _WORTH_COMPRESSING and "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
