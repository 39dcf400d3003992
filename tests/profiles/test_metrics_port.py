"""A session that cannot serve its metrics is refused as a whole: nothing of it stays behind."""

from __future__ import annotations

import socket
import threading

import pytest

from dvfb_stream.errors import SettingsError
from dvfb_stream.profiles.live_session import annotate_live

from .conftest import PATIENCE


def test_a_port_in_use_leaves_no_thread_and_nothing_subscribed(run_engine, describe, tiny_bundle, catalog):
    before = set(threading.enumerate())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        description = describe(
            f'name = "trial"\nmodel = "{tiny_bundle}"\nmetrics_port = {taken.getsockname()[1]}\n'
            '[catalog]\nuri = "http://localhost:1"\n'
        )
        with pytest.raises(SettingsError, match=r"nothing can listen on 127\.0\.0\.1"):
            annotate_live(run_engine, description, catalog=catalog)
    left = [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("dvfb")]
    for thread in left:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in left)
    assert run_engine.dispatcher.cb_registry.callbacks == {}
