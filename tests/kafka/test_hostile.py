"""Whatever is published, the daemon goes on, and the good run behind it is annotated.

DVFB_FUZZED_MESSAGES: how many messages are fuzzed; 100,000 take a minute. DVFB_FUZZED_RESULT: file for the result.
"""

import copy
import json
import math
import os
import platform
import random
import time
import uuid

import msgpack
import msgpack_numpy
import numpy as np

from tests.kafka.conftest import SHAPE, RawRun, Recorder, eventually
from tests.kafka.test_wire_format import HOSTILE, MALFORMED, event

FUZZED = int(os.environ.get("DVFB_FUZZED_MESSAGES", "1000"))
GOOD = 500
"""Brightness of the frame of a good run."""


def changed(part, **fields):
    """Documents of a run of which one part says something else; what is given as None is left out."""
    run = RawRun([7, 8])
    documents = []
    for name, doc in run.documents:
        if name == part:
            doc = {key: value for key, value in {**doc, **fields}.items() if value is not None}
        documents.append((name, doc))
    return documents


def with_image(value, **spec):
    """Documents of a run whose frames are `value`, and whose data key says `spec`."""
    documents = changed("event", data={"image": value})
    documents[1][1]["data_keys"]["image"] |= spec
    return documents


def in_order(*places):
    documents = RawRun([7, 8]).documents
    return [documents[place] for place in places]


def external(resource, datum, value="r/0"):
    run = RawRun([7])
    run.descriptor[1]["data_keys"]["image"]["external"] = "FILESTORE:"
    name, doc = run.events[0]
    filled = (name, doc | {"data": {"image": value}, "filled": {"image": False}})
    kept = {
        "uid": "r",
        "run_start": run.uid,
        "spec": "NPY_SEQ",
        "root": "/",
        "resource_path": "x",
        "resource_kwargs": {},
    }
    of_it = {"datum_id": "r/0", "resource": "r", "datum_kwargs": {"index": 0}}
    return [
        run.start,
        run.descriptor,
        ("resource", kept | resource),
        ("datum", of_it | datum),
        filled,
        run.stop,
    ]


def stream(resource=None, datum=None):
    run = RawRun([7])
    run.descriptor[1]["data_keys"]["image"]["external"] = "STREAM:"
    kept = {
        "uid": f"s{run.uid}", "run_start": run.uid, "data_key": "image", "mimetype": "application/x-hdf5",
        "uri": "file://localhost/nowhere.h5", "parameters": {"dataset": "x", "chunk_shape": [1]},
    }  # fmt: skip
    of_it = {
        "uid": "d", "stream_resource": kept["uid"], "descriptor": run.descriptor[1]["uid"],
        "indices": {"start": 0, "stop": 1}, "seq_nums": {"start": 1, "stop": 2},
    }  # fmt: skip
    documents = [("stream_resource", kept | (resource or {})), ("stream_datum", of_it | (datum or {}))]
    return [run.start, run.descriptor, *documents, run.stop]


DOCUMENTS = {
    "start without uid": lambda: changed("start", uid=None),
    "start with a number as uid": lambda: changed("start", uid=7),
    "start with an empty uid": lambda: changed("start", uid=""),
    "start with a uid of a megabyte": lambda: changed("start", uid="u" * 500_000),
    "start with NUL in its uid": lambda: changed("start", uid="a\0b"),
    "start with a path as uid": lambda: changed("start", uid="../../etc/passwd"),
    "start with time not a number": lambda: changed("start", time=math.nan),
    "start with time in words": lambda: changed("start", time="now"),
    "start with hostile metadata": lambda: changed("start", sample_name={"a\0": [math.inf, 2**64 - 1]}, scan_id="x"),
    "descriptor without data keys": lambda: changed("descriptor", data_keys=None),
    "descriptor with data keys a list": lambda: changed("descriptor", data_keys=["image"]),
    "descriptor with a data key a text": lambda: changed("descriptor", data_keys={"image": "array"}),
    "descriptor with a name of a megabyte": lambda: changed("descriptor", name="n" * 500_000),
    "descriptor of another run": lambda: changed("descriptor", run_start="another"),
    "descriptor with thousands of data keys": lambda: changed(
        "descriptor", data_keys={f"k{n}": {"dtype": "array", "shape": [1, 1]} for n in range(5_000)}
    ),
    "shape negative": lambda: with_image(np.ones(SHAPE, "u2"), shape=[-1, -5]),
    "shape in words": lambda: with_image(np.ones(SHAPE, "u2"), shape="large"),
    "shape of milliards": lambda: with_image(np.ones(SHAPE, "u2"), shape=[2**40, 2**40]),
    "shape of hundreds of dimensions": lambda: with_image(np.ones(SHAPE, "u2"), shape=[1] * 500),
    "image of text": lambda: with_image("pixels"),
    "image of nothing": lambda: with_image([]),
    "image of lists of unequal length": lambda: with_image([[1, 2], [3]]),
    "image of lists without bottom": lambda: with_image([[[[[[[[1]]]]]]]]),
    "image of complex numbers": lambda: with_image(np.ones(SHAPE, "c16")),
    "image of texts": lambda: with_image(np.full(SHAPE, "a")),
    "image of truth": lambda: with_image(np.ones(SHAPE, bool)),
    "image of NaN": lambda: with_image(np.full(SHAPE, np.nan)),
    "image of the largest numbers": lambda: with_image(np.full(SHAPE, np.finfo("f8").max)),
    "image of one dimension": lambda: with_image(np.ones(24, "u2")),
    "image of no pixel": lambda: with_image(np.ones((0, 6), "u2")),
    "image of another shape": lambda: with_image(np.ones((3, 3), "u2")),
    "image a mapping": lambda: with_image({"nd": True}),
    "event without descriptor": lambda: changed("event", descriptor=None),
    "event with data a list": lambda: changed("event", data=[1]),
    "event with no data": lambda: changed("event", data={}),
    "event with seq_num negative": lambda: changed("event", seq_num=-1),
    "event with seq_num zero": lambda: changed("event", seq_num=0),
    "event with seq_num of 64 bits": lambda: changed("event", seq_num=2**64 - 1),
    "event with seq_num in words": lambda: changed("event", seq_num="first"),
    "event with time infinite": lambda: changed("event", time=math.inf),
    "event with a uid that is none": lambda: changed("event", uid=["a"]),
    "event with filled in words": lambda: changed("event", filled="yes"),
    "event page with columns of unequal length": lambda: [
        *in_order(0, 1), ("event_page", {"descriptor": "d", "time": [1, 2], "data": {"image": [1]}}), *in_order(4)
    ],
    "event page of another run's descriptor": lambda: [("event_page", {"descriptor": "x", "time": [], "data": {}})],
    "bulk events": lambda: [("bulk_events", {"primary": []}), ("bulk_datum", {})],
    "stop before start": lambda: in_order(4, 0, 1, 2, 3),
    "events before descriptor": lambda: in_order(0, 2, 3, 1, 4),
    "everything backwards": lambda: in_order(4, 3, 2, 1, 0),
    "everything twice": lambda: [document for document in RawRun([7]).documents for _ in range(2)],
    "a run after its stop": lambda: [*RawRun([7]).documents[:2], *in_order(4, 2, 2)],
    "stop with num_events of milliards": lambda: changed("stop", num_events={"primary": 2**62}),
    "stop with num_events in words": lambda: changed("stop", num_events="many"),
    "stop without run": lambda: changed("stop", run_start=None),
    "stop with time before all times": lambda: changed("stop", time=-1e300),
    "resource of no spec": lambda: external({"spec": 7}, {}),
    "resource of a spec nobody reads": lambda: external({"spec": "EVIL"}, {}),
    "resource at a device": lambda: external({"root": "/dev", "resource_path": "zero"}, {}),
    "resource above its root": lambda: external({"resource_path": "../../../etc/shadow"}, {}),
    "resource with keywords that are none": lambda: external({"resource_kwargs": [1]}, {}),
    "datum with keywords that are none": lambda: external({}, {"datum_kwargs": "x"}),
    "datum of another resource": lambda: external({}, {"resource": "nowhere"}),
    "datum with an index of 64 bits": lambda: external({}, {"datum_kwargs": {"index": 2**63}}),
    "stream resource of the web": lambda: stream({"uri": "http://example.org/x.h5"}),
    "stream resource without address": lambda: stream({"uri": ""}),
    "stream resource with parameters a text": lambda: stream({"parameters": "x"}),
    "stream resource of a kind nobody reads": lambda: stream({"mimetype": "application/x-evil"}),
    "stream datum backwards": lambda: stream(datum={"indices": {"start": 9, "stop": 1}}),
    "stream datum of milliards": lambda: stream(datum={"indices": {"start": 0, "stop": 2**40}}),
    "stream datum with indices in words": lambda: stream(datum={"indices": {"start": "a", "stop": "b"}}),
    "stream datum of negative numbers": lambda: stream(datum={"indices": {"start": -5, "stop": -1}}),
}  # fmt: skip
GROUPS = {
    **{
        f"array: {name}": lambda content=content: [msgpack.packb(event(content))]
        for name, content in HOSTILE.items()
    },
    **{
        f"message: {name}": lambda message=message: [message]
        for name, message in MALFORMED.items()
        if message is not None
    },
    **DOCUMENTS,
}


def encoded(message):
    return message if isinstance(message, bytes) else msgpack_numpy.packb(message)


def frames_by_run(sink):
    """(frame, brightness) of the rows, by raw run."""
    documents = list(sink.documents)
    raw = {doc["uid"]: doc["analysis"]["parent"] for name, doc in documents if name == "start"}
    run = {doc["uid"]: raw[doc["run_start"]] for name, doc in documents if name == "descriptor"}
    found = {}
    for name, doc in documents:
        if name == "event":
            score = doc["data"]["rings"]
            brightness = round(score * 1000) if math.isfinite(score) else -1
            found.setdefault(run[doc["descriptor"]], []).append((doc["data"]["frame"], brightness))
    return found


def test_there_are_groups_enough():
    assert len(GROUPS) >= 80


def test_behind_each_hostile_message_the_good_run_is_annotated(topic, start_daemon, tmp_path):
    topic.producer.config["max_request_size"] = 64 << 20
    goods = {}
    for name, messages in GROUPS.items():
        goods[name] = RawRun([GOOD])
        topic.send(*map(encoded, messages()), *goods[name].documents)
    sink = Recorder()
    daemon = start_daemon(sink, limits={"patience": 0.1}, dead_letters={"folder": str(tmp_path)})
    *_, last = topic.send(*RawRun([GOOD]).documents)
    uids = {run.uid for run in goods.values()}
    eventually(lambda: uids <= set(frames_by_run(sink)) or daemon.error, timeout=120)
    assert daemon.error is None
    found = frames_by_run(sink)
    assert {name: found[run.uid] for name, run in goods.items()} == {key: [(0, GOOD)] for key in goods}
    eventually(lambda: daemon.stats().messages == last + 1)
    daemon.stop()
    assert daemon.stats().failed_dead_letters == 0
    assert daemon.stats().dead_letters >= len(HOSTILE) + len(MALFORMED) - 1


def fuzzed(chance, corpus):
    """One message that nobody would publish, made of one that somebody did."""
    message = bytearray(chance.choice(corpus))
    match chance.randrange(6):
        case 0:
            return chance.randbytes(chance.randrange(200))
        case 1:
            return bytes(message[: chance.randrange(len(message))])
        case 2:
            other = chance.choice(corpus)
            return bytes(message[: chance.randrange(len(message))]) + other[chance.randrange(len(other)) :]
        case 3:
            name, doc = msgpack_numpy.unpackb(bytes(message))
            doc = copy.deepcopy(doc)
            key = chance.choice(list(doc))
            doc[key] = chance.choice(
                [
                    None,
                    [],
                    {},
                    "",
                    "\0",
                    -1,
                    2**63,
                    1e308,
                    True,
                    "x" * 1000,
                    {"": {}},
                    [[1]],
                    doc.get("uid", ""),
                ]
            )
            return msgpack_numpy.packb((name, doc))
        case _:
            for _ in range(chance.randint(1, 6)):
                message[chance.randrange(len(message))] = chance.randrange(256)
            return bytes(message)


def test_fuzzed_messages_neither_end_nor_stop_it(topic, start_daemon, tmp_path):
    seed = int(os.environ.get("DVFB_FUZZED_SEED", "47"))
    chance, began = random.Random(seed), time.monotonic()
    corpus = [encoded(document) for _ in range(5) for document in RawRun([7, 8]).documents]
    corpus += [encoded(document) for document in (*external({}, {}), *stream())]
    sink, goods, sent = Recorder(), [], 0
    daemon = start_daemon(sink, limits={"patience": 0.0}, dead_letters={"folder": str(tmp_path)})
    while sent < FUZZED:
        batch = [fuzzed(chance, corpus) for _ in range(min(500, FUZZED - sent))]
        goods.append(RawRun([GOOD], group=str(uuid.uuid4())))
        topic.send(*batch, *goods[-1].documents)
        sent += len(batch)
        if len(goods) % 20 == 0:
            uid = goods[-1].uid
            eventually(lambda uid=uid: uid in frames_by_run(sink) or daemon.error, timeout=120)
            assert daemon.error is None
    eventually(lambda: goods[-1].uid in frames_by_run(sink) or daemon.error, timeout=120)
    assert daemon.error is None
    found = frames_by_run(sink)
    assert [found.get(run.uid) for run in goods] == [[(0, GOOD)]] * len(goods)
    daemon.stop()
    stats = daemon.stats()
    if result := os.environ.get("DVFB_FUZZED_RESULT"):
        told = {
            "date": time.strftime("%Y-%m-%d"), "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "seed": seed, "fuzzed_messages": sent, "good_runs": len(goods), "good_runs_annotated": len(goods),
            "crashes": 0, "stalls": 0, "undecodable": stats.refused, "rejected_documents": stats.rejected_documents,
            "dead_letters": stats.dead_letters, "failed_dead_letters": stats.failed_dead_letters,
            "seconds": round(time.monotonic() - began, 1),
        }  # fmt: skip
        with open(result, "w") as file:
            json.dump(told, file, indent=2)
            file.write("\n")
