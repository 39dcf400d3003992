"""``dvfb search`` answers from a folder, in which the demo or the profile left a catalog."""

from __future__ import annotations

from pathlib import Path

from dvfb_stream.catalog import embedded_server


def test_a_folder_is_served_while_it_is_searched(dvfb, tmp_path: Path) -> None:
    with embedded_server(tmp_path) as client:
        client.create_container(
            key="annotation",
            metadata={
                "start": {"analysis": {"kind": "dvfb-annotation", "parent": "raw"}},
                "stop": {"summary": {"frames": 9, "four_fold": {"count": 2}}},
            },
        )
    outcome = dvfb("search", tmp_path, "four_fold")
    assert (outcome.status, outcome.stdout.split(), outcome.errors) == (0, ["raw"], [])
