from __future__ import annotations

import threading
from contextlib import suppress

from dvfb_stream.catalog import TiledSink, find_runs, read_annotations
from dvfb_stream.errors import SettingsError


def test_a_folder_served_again_still_holds_its_runs(server):
    assert find_runs(server["kept"], "rings") == ["before the restart"]


def test_the_server_listens_on_this_machine_alone(server):
    assert "//127.0.0.1:" in server.uri


def test_reading_a_run_while_it_is_written_loses_no_row(client, analysis_documents):
    """Tiled's one shared connection rolled appends back, or hung, under a reader."""
    documents = analysis_documents(*[0.5] * 200)
    written = threading.Event()

    def write():
        try:
            sink = TiledSink(client, batch_size=5)
            for name, doc in documents:
                sink(name, doc)
            assert sink.close(120)
        finally:
            written.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    while not written.is_set():
        with suppress(SettingsError):  # until the run is there
            seen.append(len(read_annotations(client, "raw-1")))
    writer.join()
    assert seen
    assert seen == sorted(seen)
    assert [row["frame"] for row in read_annotations(client, "raw-1")] == list(range(200))
