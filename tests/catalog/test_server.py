from __future__ import annotations

from dvfb_stream.catalog import TiledSink, embedded_server, find_runs


def test_a_folder_served_again_still_holds_its_runs(tmp_path, analysis_documents):
    with embedded_server(tmp_path / "catalog") as client:
        sink = TiledSink(client)
        for name, doc in analysis_documents(0.9):
            sink(name, doc)
    with embedded_server(tmp_path / "catalog") as client:
        assert find_runs(client, "rings") == ["raw-1"]
