"""Documents that wait for others: in order, in copies, within bounds."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from dvfb_stream.callbacks.document_fields import DocumentError, NotKnownYetError, size_of
from dvfb_stream.callbacks.pending_documents import PendingDocuments

ON_A = NotKnownYetError("descriptor", "a", run="run")
ON_B = NotKnownYetError("descriptor", "b")


def numbers(held):
    return [each.number for each in held]


def test_what_waits_for_one_document_is_released_in_the_order_it_came():
    room = PendingDocuments()
    for number, missing in enumerate([ON_A, ON_B, ON_A]):
        assert room.hold(number, "event", {"n": number}, missing) == []
    assert room.release("start", "a") == []
    assert numbers(room.release("descriptor", "a")) == [0, 2]
    assert room.release("descriptor", "a") == []
    assert len(room) == 1


def test_pixels_are_copied_as_the_detector_may_reuse_its_buffer():
    room, buffer = PendingDocuments(), np.ones((2, 3))
    room.hold(1, "event", {"data": {"image": buffer}}, ON_A)
    buffer[:] = 9
    (held,) = room.release("descriptor", "a")
    assert held.doc["data"]["image"].tolist() == np.ones((2, 3)).tolist()


def test_the_oldest_leave_for_more_than_the_room_holds():
    room = PendingDocuments(most_documents=2)
    leaving = [numbers(room.hold(number, "event", {}, ON_A)) for number in range(4)]
    assert leaving == [[], [], [0], [1]]
    size = size_of({"pixels": np.zeros(1000)})
    room = PendingDocuments(most_bytes=2 * size)
    leaving = [numbers(room.hold(n, "event", {"pixels": np.zeros(1000)}, ON_A)) for n in range(4)]
    assert leaving == [[], [], [0], [1]]


def test_a_document_larger_than_the_room_is_refused_before_it_is_copied():
    room = PendingDocuments()
    endless = np.broadcast_to(np.zeros(()), (10**6, 10**6))
    with pytest.raises(DocumentError, match="too large to wait"):
        room.hold(1, "event", {"data": {"image": endless}}, ON_A)
    assert len(room) == 0


def test_a_run_takes_along_what_is_known_to_be_its_own():
    room = PendingDocuments()
    for number, missing in enumerate([ON_A, ON_B, ON_A]):
        room.hold(number, "event", {}, missing)
    assert numbers(room.of_run("run")) == [0, 2]
    assert numbers(room.empty()) == [1]


def operations(action):
    """Return how many operations of Python `action` takes."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return count


def test_what_waits_for_others_costs_a_document_nothing():
    room = PendingDocuments()

    def of_another_run():
        assert room.release("start", "x") == room.release("descriptor", "d") == room.of_run("x") == []
        assert room.run_of_descriptor("d") == ""
        room.hold(0, "descriptor", {"uid": "other"}, NotKnownYetError("start", "other", run="other"))
        assert room.run_of_descriptor("other") == "other"
        assert len(room.release("start", "other")) == 1

    alone = operations(of_another_run)
    for number in range(1000):
        room.hold(number, "event", {}, ON_A)
    assert operations(of_another_run) < 2 * alone
