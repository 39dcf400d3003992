"""A journal, cut off anywhere, leads to the same numbers, and to pixels that are read again where rows are not."""

from __future__ import annotations

import errno
import os
import uuid

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from dvfb_stream.callbacks.frame_sequence import FileFrames
from dvfb_stream.callbacks.run_progress import RowsSoFar
from dvfb_stream.callbacks.runs import RunTracker
from dvfb_stream.frames import Geometry
from dvfb_stream.kafka.journal import JournalFolder, PartitionJournal
from dvfb_stream.kafka.journal_records import packed_document, unpacked_document
from dvfb_stream.kafka.journal_state import JournalState, read_state
from tests.callbacks.conftest import SHAPE, RawDocuments

GEOMETRY = Geometry(shape=SHAPE, center_x=2.5, center_y=1.5)
BOOT = "this start of the system"


@pytest.fixture(autouse=True)
def boot(monkeypatch):
    monkeypatch.setattr("dvfb_stream.kafka.journal.boot_of_the_system", lambda: BOOT)


def frames(tracker, name, doc):
    """Return what a document brings: of each sequence the place, the numbers and what a row says."""
    return [
        (
            found.origin, found.count, found.reason[:40], found.seq_num, found.frames_each, found.geometry,
            found.time, isinstance(found.pixels, FileFrames),
        )
        for found in tracker.take(name, doc).frames
    ]  # fmt: skip


def kept(name, doc):
    """Return a document as a journal has it."""
    return unpacked_document(packed_document(name, doc))


VALUES = {
    "frame": np.ones(SHAPE, np.uint16),
    "stack": np.ones((5, *SHAPE), np.float32),
    "none": np.ones((0, *SHAPE)),
    "lists": [[1.0, 2.0]] * 50,
    "ragged": [[1, 2], [3]],
    "colours": np.ones((10, 12, 3)),
    "text": "gone",
    "objects": {"a": 1},
    "structured": np.zeros(100, [("x", "f4"), ("y", "i8")]),
    "complex": np.ones((20, 20), complex),
    "spectrum": np.ones(1000),
    "nested arrays": [np.ones(SHAPE), np.ones(SHAPE)],
}


@pytest.mark.parametrize("detectors", [{"image": GEOMETRY}, None])
@pytest.mark.parametrize("value", VALUES)
def test_a_document_without_its_pixels_has_the_same_frames(value, detectors):
    raw = RawDocuments(sample={1, 2}, angle=1 + 2j, note=np.float64(3), big=1 << 80)
    other = {"other": np.ones((30, 30)), "motor": 1.5, "name": "a" * 10}
    documents = [raw.start(), raw.descriptor("image", "other"), raw.event(image=VALUES[value], **other)]
    documents += [raw.frame(1), raw.stop()]
    whole, restored = RunTracker(detectors), RunTracker(detectors)
    for name, doc in documents:
        assert frames(restored, name, kept(name, doc)) == frames(whole, name, doc)
    bare = packed_document("event", kept(*documents[2]))
    assert bare == packed_document(*documents[2])
    assert len(bare) < 700


def test_a_page_without_its_pixels_has_the_same_frames():
    raw = RawDocuments()
    events = [raw.frame(n)[1] if n else None for n in range(1)]
    raw.descriptor()
    events = [raw.event(image=np.full(SHAPE, n), motor=float(n))[1] for n in range(100)]
    for stack in (list, np.stack):
        page = {key: [event[key] for event in events] for key in ("uid", "seq_num", "time")}
        page["descriptor"] = events[0]["descriptor"]
        page["data"] = {
            "image": stack([event["data"]["image"] for event in events]),
            "motor": np.arange(100.0),
        }
        whole, restored = RunTracker({"image": GEOMETRY}), RunTracker({"image": GEOMETRY})
        name, descriptor = raw.descriptor()
        for tracker in (whole, restored):
            tracker.take(*raw.start())
            tracker.take(name, descriptor | {"uid": page["descriptor"]})
        bare = kept("event_page", page)
        assert frames(restored, "event_page", bare) == frames(whole, "event_page", page)
        assert bare["data"]["motor"].tolist() == list(range(100))


class Partition:
    """Documents of a partition, a tracker that takes them, rows that come later, and the journal of both."""

    def __init__(self, folder):
        self.tracker = RunTracker({"image": GEOMETRY})
        self.journal = JournalFolder(folder).begin(
            "topic", 0, 0, JournalState(), sync=lambda: None, is_ours=lambda: True
        )
        self.documents, self.found, self.unwritten, self.counts = [], [], [], {}

    def take(self, name, doc):
        offset = len(self.documents)
        taken = self.tracker.take(name, doc)
        in_documents = [
            (found.origin.stream, found.origin.data_key, found.origin.index + found.count)
            for found in taken.frames
            if not found.reason and not isinstance(found.pixels, FileFrames)
        ]
        self.documents.append((name, doc))
        self.found.append([(found.origin, found.count) for found in taken.frames])
        self.unwritten += [(found.origin, n) for found in taken.frames for n in range(found.count)]
        self.journal.document(
            offset, name, doc, run=taken.run_uid, in_documents=in_documents,
            waiting=self.tracker.waiting > 0, published=float(offset), publisher=b"key",
        )  # fmt: skip

    def write_rows(self, most):
        for origin, _ in self.unwritten[:most]:
            place = (origin.run_uid, origin.stream, origin.data_key)
            self.counts[place] = self.counts.get(place, 0) + 1
            self.journal.rows(place, self.counts[place], [1.0, float(self.counts[place])])
        del self.unwritten[:most]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_wherever_a_journal_is_cut_off_frames_keep_their_numbers(data, tmp_path_factory):
    partition = Partition(tmp_path_factory.mktemp("journal"))
    raws = [RawDocuments() for _ in range(data.draw(st.integers(1, 3)))]
    for raw in raws:
        opening = [raw.start(), raw.descriptor("image")]
        early = [raw.frame(1.0)] if data.draw(st.booleans()) else []
        # An event that comes before its descriptor waits for it, pixels and all.
        order = [opening[0], *early, opening[1]] if data.draw(st.booleans()) else [*opening, *early]
        for document in order:
            partition.take(*document)
    for _ in range(data.draw(st.integers(0, 25))):
        raw = data.draw(st.sampled_from(raws))
        each = data.draw(st.integers(1, 3))
        match data.draw(st.sampled_from(["event", "event", "lost", "again", "rows", "write down", "stop"])):
            case "event":
                partition.take(*raw.event(image=np.ones((each, *SHAPE))))
            case "lost":
                raw.frame(1.0)
            case "again":
                raw._numbers["primary"] = max(0, raw._numbers.get("primary", 0) - 2)
            case "rows":
                partition.write_rows(each)
            case "write down":
                partition.journal.write_down()
            case "stop":
                partition.take(*raw.stop())
    content = partition.journal.path.read_bytes()
    partition.journal.close()
    state = read_state(content[: data.draw(st.integers(0, len(content)))], boot=BOOT)
    position = state.position
    if position is None:
        return
    again, found = RunTracker({"image": GEOMETRY}), {}
    # A journal that is begun with this one says the same.
    journal = JournalFolder(tmp_path_factory.mktemp("next")).begin(
        "topic", 0, 0, state.before(position), sync=lambda: None, is_ours=lambda: True
    )
    state = read_state(journal.path.read_bytes(), boot=BOOT)
    journal.close()
    assert state.position == position
    for noted in state.documents:
        assert noted.offset < position
        found[noted.offset] = again.take(noted.name, noted.doc).frames
        for each in found[noted.offset]:
            rows = state.rows.get((each.origin.run_uid, each.origin.stream, each.origin.data_key))
            has_rows = rows is not None and rows.count >= each.origin.index + each.count
            assert has_rows or each.reason
    for offset, (name, doc) in enumerate(partition.documents):
        if offset >= position:
            found[offset] = again.take(name, doc).frames
        assert [(each.origin, each.count) for each in found.get(offset, ())] == partition.found[offset]


def test_an_event_that_waits_for_its_descriptor_is_read_again_with_its_pixels(tmp_path):
    partition, raw = Partition(tmp_path), RawDocuments()
    descriptor = raw.descriptor()
    for document in (raw.start(), raw.frame(1.0)):
        partition.take(*document)
    state = read_state(partition.journal.path.read_bytes(), boot=BOOT)
    assert state.position == 1
    # Released by the descriptor it has its frame, and still no row.
    partition.take(*descriptor)
    partition.take(*raw.frame(2.0))
    assert read_state(partition.journal.path.read_bytes(), boot=BOOT).position == 1
    partition.write_rows(1)
    assert read_state(partition.journal.path.read_bytes(), boot=BOOT).position == 3


def journal_of_a_run(folder, frames=3):
    partition, raw = Partition(folder), RawDocuments()
    for document in raw.whole(*range(frames))[:-1]:
        partition.take(*document)
    return partition, raw


def test_after_a_power_failure_a_journal_counts_up_to_where_it_was_written_down(tmp_path):
    partition, raw = journal_of_a_run(tmp_path)
    partition.write_rows(2)
    partition.journal.write_down()
    partition.write_rows(1)
    content = partition.journal.path.read_bytes()
    place = (raw.uid, "primary", "image")
    assert read_state(content, boot=BOOT).rows[place] == RowsSoFar(3, [1.0, 3.0])
    for other in ("another start", ""):
        state = read_state(content, boot=other)
        assert state.rows[place].count == 2
        assert state.position == 4


def test_a_spool_that_cannot_be_written_down_ends_the_journal_where_it_was(tmp_path, caplog):
    partition, _ = journal_of_a_run(tmp_path)

    def fails():
        raise OSError("disk")

    partition.journal._sync = fails
    before = partition.journal.path.read_bytes()
    partition.journal.write_down()
    partition.write_rows(3)
    assert partition.journal.path.read_bytes() == before
    assert "cannot be written (disk)" in caplog.text


def test_a_run_that_is_over_leaves_and_what_stays_open_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("dvfb_stream.kafka.journal._GROWN_BYTES", 0)
    partition, raw = journal_of_a_run(tmp_path)
    sizes = []
    for _ in range(30):
        other = RawDocuments()
        for document in other.whole(*range(20)):
            partition.take(*document)
        partition.write_rows(100)
        partition.journal.over(other.uid)
        partition.journal.write_down()
        sizes.append(partition.journal.path.stat().st_size)
    assert max(sizes) < 40_000
    state = read_state(partition.journal.path.read_bytes(), boot=BOOT)
    assert state.before(state.position).runs() == {raw.uid}
    assert len(state.before(state.position).documents) == 5


def test_only_the_newest_file_of_a_partition_counts_and_older_ones_go(tmp_path):
    folder = JournalFolder(tmp_path)
    settings = {"sync": lambda: None, "is_ours": lambda: True}
    first = folder.begin("a.b", 1, 0, JournalState(at=5), **settings)
    second = folder.begin("a.b", 1, 1, JournalState(at=7), **settings)
    other = folder.begin("a.b", 11, 0, JournalState(at=9), **settings)
    assert not first.path.exists()
    # A process that was halted meanwhile writes its own file anew.
    first._write_anew(JournalState(at=6))
    assert folder.newest("a.b", 1)[1].at == 7
    assert folder.newest("a.b", 11)[1].at == 9
    assert folder.newest("a", 1) == (0, JournalState())
    assert {second.path, other.path, first.path} == set(tmp_path.iterdir())


def test_where_there_is_no_room_for_a_new_file_the_older_one_counts(tmp_path, caplog):
    folder = JournalFolder(tmp_path)
    settings = {"sync": lambda: None, "is_ours": lambda: True}
    first = folder.begin("a", 0, 0, JournalState(at=5), **settings)
    (tmp_path / "a-0.00000002.new").mkdir()  # what cannot be opened as a file, as on a full disk
    second = folder.begin("a", 0, 1, JournalState(at=7), **settings)
    assert not second.is_written
    assert "cannot be written" in caplog.text
    number, found = folder.newest("a", 0)
    assert (number, found.at) == (1, 5)
    (tmp_path / "a-0.00000002.new").rmdir()
    assert folder.begin("a", 0, number, found, **settings).is_written
    assert folder.newest("a", 0)[1].at == 5
    assert not first.path.exists()


def test_a_journal_that_had_no_room_to_begin_begins_once_there_is_some(tmp_path):
    (tmp_path / "a.new").mkdir()
    journal = PartitionJournal(
        tmp_path / "a.journal", JournalState(at=7), sync=lambda: None, is_ours=lambda: True
    )
    place = (str(uuid.uuid4()), "primary", "image")
    journal.rows(place, 1, [])
    (tmp_path / "a.new").rmdir()
    journal.write_down()
    assert journal.is_written
    state = read_state(journal.path.read_bytes(), boot="another start")
    assert (state.at, state.rows[place].count) == (7, 1)


class FullDisk:
    """Takes so many bytes of each record and says that it is full, until there is room."""

    def __init__(self, monkeypatch, takes):
        self.takes, self.is_full, self._write = takes, True, os.write
        monkeypatch.setattr("dvfb_stream.kafka.journal.os.write", self.write)

    def write(self, file, content):
        if not self.is_full:
            return self._write(file, content)
        if self.takes:
            return self._write(file, content[: self.takes])
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("takes", [0, 5])
def test_records_wait_for_room_on_a_full_disk_and_are_written_in_their_order(
    tmp_path, monkeypatch, caplog, takes
):
    partition, raw = journal_of_a_run(tmp_path)
    place = (raw.uid, "primary", "image")
    partition.write_rows(1)
    before = partition.journal.path.read_bytes()
    disk = FullDisk(monkeypatch, takes)
    partition.write_rows(1)
    partition.write_rows(1)
    partition.journal.write_down()
    assert partition.journal.path.read_bytes() == before
    assert not partition.journal.is_written
    assert caplog.text.count("cannot be written now") == 1
    disk.is_full = False
    partition.journal.write_down()
    assert partition.journal.is_written
    assert read_state(partition.journal.path.read_bytes(), boot="another start").rows[place].count == 3
    assert partition.journal.path.read_bytes().startswith(before)


def test_a_journal_ends_where_more_waits_for_room_than_memory_is_given(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("dvfb_stream.kafka.journal.MOST_LATE_BYTES", 100)
    partition, _ = journal_of_a_run(tmp_path)
    before = partition.journal.path.read_bytes()
    disk = FullDisk(monkeypatch, 0)
    partition.write_rows(3)
    disk.is_full = False
    partition.journal.write_down()
    partition.journal.close()
    assert partition.journal.path.read_bytes() == before
    assert "wait for room on the disk" in caplog.text


def test_a_journal_that_cannot_be_written_anew_goes_on_as_it_is(tmp_path):
    journal = PartitionJournal(
        tmp_path / "a.journal", JournalState(), sync=lambda: None, is_ours=lambda: True
    )
    place = (str(uuid.uuid4()), "primary", "image")
    journal.rows(place, 1, [])
    (tmp_path / "a.new").mkdir()
    journal._write_anew(JournalState(at=6))
    journal.rows(place, 2, [])
    assert read_state(journal.path.read_bytes(), boot=BOOT).rows[place].count == 2


def test_rows_that_no_sink_took_any_more_are_not_noted(tmp_path):
    ours = [True]
    journal = PartitionJournal(
        tmp_path / "a.journal", JournalState(), sync=lambda: None, is_ours=lambda: ours[0]
    )
    place = (str(uuid.uuid4()), "primary", "image")
    journal.rows(place, 1, [])
    ours[0] = False
    journal.rows(place, 2, [])
    assert read_state(journal.path.read_bytes(), boot=BOOT).rows[place].count == 1
