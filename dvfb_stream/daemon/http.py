"""``/livez``, ``/readyz`` and ``/metrics``: what supervisors and Prometheus ask a daemon over HTTP."""

from __future__ import annotations

import json
import logging
import threading
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from dvfb_stream.daemon.health import Health
from dvfb_stream.errors import SettingsError
from dvfb_stream.metrics import Metrics
from dvfb_stream.metrics.prometheus import text_of

logger = logging.getLogger(__name__)

PATHS = ("/livez", "/readyz", "/metrics")
_SECONDS_FOR_A_REQUEST = 10.0
"""After which a client that sends nothing is let go: each has a thread."""


class HealthServer:
    """Answers on threads of its own until it is closed; there is no authentication.

    - ``/livez``: 200 while the daemon's loop turns, else 503.
    - ``/readyz``: 200 where every part that it needs is well, else 503. JSON: ``ready``, and for each part ``ok``
      with ``reason``.
    - ``/metrics``: for Prometheus.
    - Any other path: 404.

    Parameters
    ----------
    health, metrics
        What it tells.
    address
        Interface to listen on.
    port
        TCP port; 0: any that is free.

    Raises
    ------
    MissingExtraError
        When prometheus-client is not installed.
    SettingsError
        When nothing can listen there.
    """

    def __init__(self, health: Health, metrics: Metrics, *, address: str, port: int) -> None:
        export = text_of(metrics.snapshot)
        try:
            self._server = _Server((address, port), partial(_Answer, health, export))
        except (OSError, OverflowError) as error:
            raise SettingsError(
                f"nothing can listen on {address}:{port}: {error}; choose another port or address under [http]"
            ) from error
        self.port = int(self._server.server_port)
        """Where it listens."""
        self._thread = threading.Thread(target=self._server.serve_forever, name="dvfb-http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the threads, and free the port."""
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

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("a request of %s failed", client_address, exc_info=True)


class _Answer(BaseHTTPRequestHandler):
    timeout = _SECONDS_FOR_A_REQUEST

    def __init__(self, health: Health, export: Any, *request: Any) -> None:
        self._health = health
        self._export = export
        super().__init__(*request)

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/livez":
                state = self._health.alive()
                self._send(_status(state.ok), {"alive": state.ok, "reason": state.reason})
            case "/readyz":
                parts = self._health.ready()
                ready = all(state.ok for state in parts.values())
                told = {part: {"ok": state.ok, "reason": state.reason} for part, state in parts.items()}
                self._send(_status(ready), {"ready": ready, "parts": told})
            case "/metrics":
                self._health.measure()
                body, kind = self._export()
                self._send_bytes(HTTPStatus.OK, body, kind)
            case _:
                self._send(HTTPStatus.NOT_FOUND, {"error": f"there are {', '.join(PATHS)}"})

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Log nothing: Prometheus asks every few seconds."""

    def _send(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        self._send_bytes(status, json.dumps(content).encode() + b"\n", "application/json")

    def _send_bytes(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _status(ok: bool) -> HTTPStatus:  # noqa: FBT001 - a status for each
    return HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE
