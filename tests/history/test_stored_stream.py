"""Images come with the events that have them, whichever part of a stream is asked for."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pandas as pd

from dvfb_stream.history.stored_images import ImagesInTiled
from dvfb_stream.history.stored_stream import StoredStream


def test_an_image_belongs_to_the_event_that_has_it_or_follows_the_last():
    draw = random.Random(1)
    for _ in range(500):
        has = [draw.random() < 0.6 for _ in range(draw.randint(0, 12))]
        stream = StoredStream("primary", "run", read=lambda _, __, first, stop: list(range(first, stop)))
        if has:
            rows = {"seq_num": range(1, len(has) + 1), "time": map(float, range(len(has)))}
            stream.events.add(pd.DataFrame(rows | {"ts_image": [1.0 if one else None for one in has]}))
        with_image = [event for event, one in enumerate(has) if one] or list(range(len(has)))
        points = draw.randint(0, len(with_image) + 4)
        beyond = range(len(has), len(has) + max(0, points - len(with_image)))
        expected = {event: image for image, event in enumerate([*with_image[:points], *beyond])}
        first = draw.randint(0, len(has) + 4)
        block = range(first, draw.randint(first, len(has) + 4))
        images = ImagesInTiled(SimpleNamespace(shape=(points, 2, 2)), points, 0)
        found = stream._pixels("image", images, block)
        assert found == {event: image for event, image in expected.items() if event in block}


def test_rows_that_come_twice_are_one_event():
    stream = StoredStream("primary", "run")
    rows = pd.DataFrame({"seq_num": [1, 2], "time": [1.0, 2.0], "motor": [0.5, 0.6]})
    stream.events.add(rows)
    stream.events.add(pd.concat([rows, pd.DataFrame({"seq_num": [3], "time": [3.0], "motor": [0.7]})]))
    assert stream.events.numbers == [1, 2, 3]
    assert [data["motor"] for data in stream.events.data] == [0.5, 0.6, 0.7]
