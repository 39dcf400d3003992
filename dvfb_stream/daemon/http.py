"""``/livez``, ``/readyz`` and ``/metrics``: what supervisors and Prometheus ask a daemon over HTTP."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from dvfb_stream.daemon.health import Health
from dvfb_stream.metrics import Metrics
from dvfb_stream.metrics.http import Answer, HttpServer, Question
from dvfb_stream.metrics.prometheus import exporting

PATHS = ("/livez", "/readyz", "/metrics")


def serve_health(health: Health, metrics: Metrics, *, address: str, port: int) -> HttpServer:
    """Answer over HTTP until the server is closed; there is no authentication.

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
    export = exporting(metrics.snapshot)

    def alive(question: Question) -> Answer:
        state = health.alive()
        return json_answer({"alive": state.ok, "reason": state.reason}, ok=state.ok)

    def ready(question: Question) -> Answer:
        parts = health.ready()
        is_ready = all(state.ok for state in parts.values())
        told = {part: {"ok": state.ok, "reason": state.reason} for part, state in parts.items()}
        return json_answer({"ready": is_ready, "parts": told}, ok=is_ready)

    def measured(question: Question) -> Answer:
        health.measure()
        return export(question)

    answers = dict(zip(PATHS, (alive, ready, measured), strict=True))
    return HttpServer(answers, address=address, port=port, chosen="under [http]")


def json_answer(content: dict[str, Any], *, ok: bool) -> Answer:
    """Return an answer that says whether all is well by its status, too."""
    status = HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE
    return Answer(json.dumps(content).encode() + b"\n", "application/json", status)
