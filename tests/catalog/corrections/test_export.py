"""Files of exported frames."""

from __future__ import annotations

from dvfb_stream.catalog.corrections.export import _name_of_file


def test_streams_whose_names_look_alike_get_a_file_each():
    taken: set[str] = set()
    names = [
        _name_of_file(what, taken) for what in ("uid-a/b-image", "uid-a-b-image", "uid-a b-image", "x" * 300)
    ]
    assert names[:3] == ["uid-a-b-image.h5", "uid-a-b-image.1.h5", "uid-a-b-image.2.h5"]
    assert names[3] == "x" * 200 + ".h5"
