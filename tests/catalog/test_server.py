from __future__ import annotations

from dvfb_stream.catalog import find_runs


def test_a_folder_served_again_still_holds_its_runs(server):
    assert find_runs(server["kept"], "rings") == ["before the restart"]


def test_the_server_listens_on_this_machine_alone(server):
    assert "//127.0.0.1:" in server.uri
