"""A batch is divided among threads of one core each, and comes back in order."""

import threading

import pytest
import torch

from dvfb_stream.processor_lanes import FEWEST_TOGETHER, ProcessorLanes


@pytest.fixture
def two_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_from_threads_of_one_core(two_cores):
    lanes, both_are_there = ProcessorLanes(), threading.Barrier(2)

    def work(items):
        both_are_there.wait(30)
        return [(item, threading.current_thread().name, torch.get_num_threads()) for item in items]

    for count in (2 * FEWEST_TOGETHER, 2 * FEWEST_TOGETHER + 5):
        found = lanes.map(work, range(count))
        assert [item for item, _, _ in found] == list(range(count))
        assert len({name for _, name, _ in found}) == 2
        assert {threads for _, _, threads in found} == {1}


def test_other_threads_keep_all_cores(two_cores):
    ProcessorLanes().map(list, range(100))
    found = [torch.get_num_threads()]
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found == [2, 2]


@pytest.mark.parametrize("count", [1, 2 * FEWEST_TOGETHER - 1])
def test_few_items_are_one_threads_of_one_core(two_cores, count):
    asked = []
    assert ProcessorLanes().map(
        lambda items: asked.append((threading.current_thread(), torch.get_num_threads())) or items,
        range(count),
    ) == [*range(count)]
    ((thread, cores),) = asked
    assert thread is not threading.current_thread()
    assert cores == 1


def test_nothing_is_no_work_for_a_thread(two_cores):
    assert ProcessorLanes().map(lambda items: items, []) == []


def test_one_core_has_one_lane(two_cores):
    torch.set_num_threads(1)
    asked = []
    ProcessorLanes().map(lambda items: asked.append(threading.current_thread()) or items, range(100))
    assert asked == [threading.current_thread()]


def test_the_first_failure_is_raised_when_all_have_ended(two_cores):
    ended = []

    def work(items):
        if items[0] == 0:
            raise ValueError("of the first part")
        ended.append(items)
        return items

    lanes = ProcessorLanes()
    with pytest.raises(ValueError, match="of the first part"):
        lanes.map(work, range(20))
    assert ended == [range(10, 20)]
    assert lanes.map(list, range(20)) == [*range(20)]
