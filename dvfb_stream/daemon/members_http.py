"""``/livez``, ``/readyz`` and ``/metrics`` of several daemons at one address."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from dvfb_stream.daemon.health import Part
from dvfb_stream.daemon.http import PATHS, json_answer
from dvfb_stream.daemon.members import Member
from dvfb_stream.metrics.http import Answer, HttpServer, Question

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

_SECONDS_TO_ANSWER = 5.0
"""Longer than a daemon waits for a store that keeps silent, 3 s (`StoreReach`); Prometheus itself waits for 10 s."""
_SECONDS_TO_BEGIN = 0.5
"""In which one that starts answers, or is asked again: who watches all of them waits for it."""
_OPENER = build_opener(ProxyHandler({}))
"""Never by a proxy: they are on this machine."""
WORKER = "worker"
"""Label of each series, with the number of the daemon that it is of."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a daemon has answered; nothing where it did not."""

    status: int = 0
    content: bytes = b""


def ask(member: Member, path: str, patience: float = _SECONDS_TO_ANSWER) -> Told:
    """Return what a daemon answers within so many seconds."""
    try:
        with _OPENER.open(f"http://127.0.0.1:{member.port}{path}", timeout=patience) as answer:
            return Told(answer.status, answer.read())
    except HTTPError as error:
        with error, suppress(OSError, HTTPException):  # it may end amid its answer
            return Told(error.code, error.read())
    except (OSError, HTTPException):
        pass
    return Told()


def has_begun(member: Member) -> bool:
    """Return whether a daemon has its model."""
    told = ask(member, "/readyz", _SECONDS_TO_BEGIN)
    return bool(told.content) and bool(json.loads(told.content)["parts"][Part.MODEL]["ok"])


def serve_members(
    members: Sequence[Member], turned: Callable[[], float], *, patience: float, address: str, port: int
) -> HttpServer:
    """Answer over HTTP until the server is closed; there is no authentication.

    - ``/livez``: 200 while this process turns, and each daemon that is at work does, else 503. One that has ended is
      started again: whoever would end all for its sake would only end the others, too.
    - ``/readyz``: 200 where each is ready, else 503. JSON: ``ready``, and ``workers`` with what each says, or why it
      does not.
    - ``/metrics``: the series of all, each with the label ``worker``; ``dvfb_workers``, how many live; and
      ``dvfb_worker_restarts_total``, how often each was started again.

    Parameters
    ----------
    members
        The daemons.
    turned
        Seconds since this process turned.
    patience
        Seconds after which it counts as stuck.
    address, port
        To listen on.

    Raises
    ------
    MissingExtraError
        When prometheus-client is not installed.
    SettingsError
        When nothing can listen there.
    """
    export = _merging(members)

    def of_all(path: str) -> list[Told]:
        with ThreadPoolExecutor(len(members)) as pool:
            return list(pool.map(lambda member: ask(member, path), members))

    def alive(question: Question) -> Answer:
        told, age = of_all("/livez"), turned()
        dead = [
            member.number
            for member, one in zip(members, told, strict=True)
            if one.status != HTTPStatus.OK and member.is_at_work
        ]
        ok = not dead and age < patience
        reason = f"workers {dead} do not turn" if dead else f"turned {age:.1f} s ago"
        return json_answer({"alive": ok, "reason": reason, "workers": _by_number(members, told)}, ok=ok)

    def ready(question: Question) -> Answer:
        told = of_all("/readyz")
        ok = all(one.status == HTTPStatus.OK for one in told)
        return json_answer({"ready": ok, "workers": _by_number(members, told)}, ok=ok)

    answers = dict(
        zip(PATHS, (alive, ready, lambda question: export(question, of_all("/metrics"))), strict=True)
    )
    return HttpServer(answers, address=address, port=port, chosen="under [http]")


def _by_number(members: Sequence[Member], told: Sequence[Told]) -> dict[str, Any]:
    return {
        str(member.number): json.loads(one.content) if one.content else {"reason": member.absence}
        for member, one in zip(members, told, strict=True)
    }


def _merging(members: Sequence[Member]) -> Callable[[Question, Sequence[Told]], Answer]:
    """Return a function that joins what daemons say to Prometheus."""
    from dvfb_stream.errors import MissingExtraError

    try:
        from prometheus_client import CollectorRegistry
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
        from prometheus_client.exposition import choose_encoder
        from prometheus_client.parser import text_string_to_metric_families
        from prometheus_client.registry import Collector
    except ImportError as error:
        raise MissingExtraError("prometheus-client", "metrics") from error

    class Merged(Collector):
        def __init__(self, told: Sequence[Told]) -> None:
            self._told = told

        def collect(self) -> Iterator[Family]:
            families: dict[str, Family] = {}
            for member, one in zip(members, self._told, strict=True):
                for family in text_string_to_metric_families(one.content.decode()):
                    kept = families.setdefault(family.name, family)
                    mine = [
                        sample._replace(labels={**sample.labels, WORKER: str(member.number)})
                        for sample in family.samples
                    ]
                    kept.samples = mine if kept is family else [*kept.samples, *mine]
            yield from families.values()
            living = GaugeMetricFamily("dvfb_workers", "Daemons of this service that live.")
            living.add_metric([], sum(member.lives for member in members))
            yield living
            restarts = CounterMetricFamily(
                "dvfb_worker_restarts",
                "Times that a daemon of this service was started again.",
                labels=[WORKER],
            )
            for member in members:
                restarts.add_metric([str(member.number)], max(0, member.starts - 1))
            yield restarts

    def export(question: Question, told: Sequence[Told]) -> Answer:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(Merged(told))
        encode, content_type = choose_encoder(question.accept)
        names = question.query.get("name[]")
        return Answer(encode(registry.restricted_registry(names) if names else registry), content_type)

    return export
