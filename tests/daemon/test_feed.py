"""The feed keeps the order, says when it is full, and does not hide a failure."""

import threading
import tracemalloc

import pytest

from dvfb_stream.daemon.feed import ENTRY_BYTES, DocumentFeed


@pytest.fixture
def gate():
    gate = threading.Event()
    yield gate
    gate.set()


def test_documents_are_handed_over_in_order():
    seen = []
    feed = DocumentFeed(lambda *document: seen.append(document), max_bytes=10)
    for n in range(100):
        feed.put(n, "event", {}, size=n % 2)  # some are no document, and have no size
    assert feed.drain(10)
    assert seen == [(n, "event", {}) for n in range(100)]
    feed.close()


def test_it_is_full_while_the_pipeline_blocks_and_has_room_again_after(gate):
    feed = DocumentFeed(lambda offset, name, doc: gate.wait(10), max_bytes=2 * ENTRY_BYTES + 10)
    feed.put(1, "event", {}, size=9)
    assert not feed.is_full
    feed.put(1, "event", {}, size=9)
    assert feed.is_full
    assert not feed.drain(0.01)
    gate.set()
    assert feed.drain(10)
    assert not feed.is_full
    feed.close()


def test_messages_that_are_no_documents_fill_it_too(gate):
    feed = DocumentFeed(lambda offset, name, doc: gate.wait(10), max_bytes=1 << 16)
    for offset in range(1000):
        feed.put(offset, "", {}, size=0)
    assert feed.is_full
    gate.set()
    assert feed.drain(10)
    assert not feed.is_full
    feed.close()


def test_an_entry_takes_no_more_than_it_is_counted_as(gate):
    feed = DocumentFeed(lambda offset, name, doc: gate.wait(10), max_bytes=1 << 30)
    tracemalloc.start()
    for offset in range(10_000):
        feed.put(offset + 1_000_000, "", {}, size=0)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 10_000 * ENTRY_BYTES / 2 < taken < 10_000 * ENTRY_BYTES * 1.1
    feed.close()


def test_what_the_pipeline_raises_is_kept_and_ends_the_handing_over():
    def fail(offset, name, doc):
        raise MemoryError("no room")

    feed = DocumentFeed(fail, max_bytes=10)
    feed.put(1, "event", {}, size=1)
    assert not feed.drain(10)
    assert isinstance(feed.failure, MemoryError)
    feed.put(1, "event", {}, size=100)
    assert not feed.is_full


def test_after_close_nothing_is_handed_over(gate):
    seen = []

    def slow(offset, name, doc):
        seen.append(doc)
        gate.wait(10)

    feed = DocumentFeed(slow, max_bytes=10)
    feed.put(1, "event", {"n": 0}, size=1)
    feed.put(1, "event", {"n": 1}, size=1)
    feed.close()
    gate.set()
    assert not feed.drain(1)
    assert {"n": 1} not in seen


def test_what_has_no_size_is_waited_for_as_well(gate):
    feed = DocumentFeed(lambda offset, name, doc: gate.wait(10), max_bytes=10)
    feed.put(0, "", {}, size=0)
    assert not feed.drain(0.01)
    gate.set()
    assert feed.drain(10)
    feed.close()
