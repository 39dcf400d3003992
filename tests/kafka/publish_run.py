"""Publishes one run as a beamline does: event-model's documents through bluesky_kafka's own publisher.

A process of its own, because importing bluesky_kafka replaces msgpack's decoder in the whole process.
Usage: publish_run.py SERVERS TOPIC UID FRAMES PAUSE_AFTER; prints "paused" after so many events and goes on
when a line comes in.
"""

import sys
import uuid

import numpy as np
from bluesky_kafka import Publisher
from event_model import compose_run

SHAPE = (96, 80)


def frame(index):
    return np.random.default_rng(index).poisson(20 + index, SHAPE).astype(np.uint16)


def main(servers, topic, uid, frames, pause_after):
    publish = Publisher(topic, servers, key=str(uuid.uuid4()), producer_config={"enable.idempotence": True})
    run = compose_run(uid=uid, metadata={"scan_id": 1, "sample_name": "silver behenate"})
    publish("start", run.start_doc)
    stream = run.compose_descriptor(
        name="primary",
        data_keys={"image": {"source": "camera", "dtype": "array", "shape": list(SHAPE)}},
    )
    publish("descriptor", stream.descriptor_doc)
    for index in range(int(frames)):
        if index == int(pause_after):
            publish.flush()
            print("paused", flush=True)  # noqa: T201
            sys.stdin.readline()
        publish(
            "event", stream.compose_event(data={"image": frame(index)}, timestamps={"image": float(index)})
        )
    publish("stop", run.compose_stop())
    publish.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
