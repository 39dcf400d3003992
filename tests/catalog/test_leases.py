"""One writer at a time, whatever became of the one before."""

from __future__ import annotations

import time
from typing import Any

import pytest

from dvfb_stream.catalog import leases as leases_module
from dvfb_stream.catalog.leases import LEASE_SECONDS, Leases
from dvfb_stream.catalog.store_errors import StoreUnavailableError

MOMENT = 1.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def writer(client: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Leases as a process of its own has them, on another machine: nobody can see whether it lives."""

    def make(name: str) -> Leases:
        with monkeypatch.context() as patch:
            elsewhere = {"token": name, "name": name, "machine": name, "pid": 1, "started": 1}
            patch.setattr(leases_module, "identity", lambda _: elsewhere)
            return Leases(client, clock=clock)

    return make


def test_a_run_that_is_being_written_is_refused_by_the_name_of_its_writer(writer):
    one, two = writer("one"), writer("two")
    one.take("run")
    with pytest.raises(StoreUnavailableError, match="is being written by one"):
        two.take("run")
    two.take("another run")


def test_a_lease_that_is_given_back_can_be_taken_at_once(writer, client):
    one, two = writer("one"), writer("two")
    one.release(one.take("run"))
    assert len(client) == 0
    two.take("run")


def test_a_writer_that_shows_no_life_loses_its_lease_and_notices(writer, clock, client):
    one, two = writer("one"), writer("two")
    lease = one.take("run")
    with pytest.raises(StoreUnavailableError):
        two.take("run")
    clock.now += LEASE_SECONDS - MOMENT
    with pytest.raises(StoreUnavailableError):
        two.take("run")
    clock.now += MOMENT
    two.take("run")
    with pytest.raises(StoreUnavailableError, match="run"):
        one.take("run")
    with pytest.raises(Exception, match="404"):  # its node is gone, which the store takes for "not now"
        one.keep(lease)
    assert len(client) == 1


def test_a_writer_that_writes_now_and_then_keeps_its_lease(writer, clock):
    one, two = writer("one"), writer("two")
    lease = one.take("run")
    for _ in range(8):
        with pytest.raises(StoreUnavailableError):
            two.take("run")
        clock.now += LEASE_SECONDS / 2
        one.keep(lease)


def test_a_lease_does_not_outlive_the_sleep_of_its_machine():
    """The monotonic clock of Linux stands still meanwhile."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    now = leases_module.seconds_since_boot()
    assert before <= now <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_an_answer_that_took_longer_than_others_wait_proves_nothing(writer, clock, monkeypatch):
    one = writer("one")
    lease = one.take("run")
    newest = one._newest

    def slow(uid):
        clock.now += LEASE_SECONDS
        return newest(uid)

    monkeypatch.setattr(one, "_newest", slow)
    with pytest.raises(StoreUnavailableError, match="so slow"):
        one.confirm(lease)


def test_a_lease_is_looked_after_before_others_may_take_it(writer, clock):
    """Trusted for a third of the time, a request may take the other two."""
    one, two = writer("one"), writer("two")
    lease = one.take("run")
    sign = dict(lease.node.metadata)
    clock.now += LEASE_SECONDS / 3 - MOMENT
    one.keep(lease)
    assert dict(lease.node.metadata) == sign
    clock.now += MOMENT
    one.keep(lease)
    assert dict(lease.node.metadata) != sign
    with pytest.raises(StoreUnavailableError):
        two.take("run")


def test_of_two_that_take_over_at_once_one_gets_it(writer, clock):
    one, two, three = writer("one"), writer("two"), writer("three")
    one.take("run")
    for other in (two, three):
        with pytest.raises(StoreUnavailableError):
            other.take("run")
    clock.now += LEASE_SECONDS
    two.take("run")
    with pytest.raises(StoreUnavailableError, match="by two"):
        three.take("run")


def test_who_judges_by_a_lease_that_has_gone_gives_way(writer, clock, client):
    """Two sees one's lease run out; before it takes over, one gives back and three begins."""
    one, two, three = writer("one"), writer("two"), writer("three")
    lease = one.take("run")
    with pytest.raises(StoreUnavailableError):
        two.take("run")
    clock.now += LEASE_SECONDS

    create = client.create_container

    def late(**how):
        two._container.create_container = create
        one.release(lease)
        three.take("run")
        return create(**how)

    two._container.create_container = late
    with pytest.raises(StoreUnavailableError, match="just took"):
        two.take("run")
    (left,) = client.values()
    assert left.metadata["writer"]["name"] == "three"


def test_a_writer_of_this_machine_that_has_ended_is_followed_at_once(client, clock, monkeypatch):
    ended = leases_module.identity(None) | {"token": "ended", "started": 1}
    with monkeypatch.context() as patch:
        patch.setattr(leases_module, "identity", lambda _: ended)
        Leases(client, clock=clock).take("run")
    Leases(client, clock=clock).take("run")


def test_writers_that_were_killed_while_they_took_over_hold_nobody_up(writer, client, clock, monkeypatch):
    """Each left its own lease and those before it."""
    for name in ("one", "two", "three"):
        with monkeypatch.context() as patch:
            patch.setattr(Leases, "_delete", lambda self, node: None)
            writer(name).take("run")
            patch.setattr(leases_module, "is_dead", lambda holder: True)
            writer(f"{name} again").take("run")
        monkeypatch.setattr(leases_module, "is_dead", lambda holder: True)
    assert len(client) == 6
    writer("four").take("run")
    assert len(client) == 1


def test_all_stores_of_a_process_hold_a_lease_together(client, clock):
    Leases(client, clock=clock).take("run")
    Leases(client, clock=clock).take("run")
    assert len(client) == 1
