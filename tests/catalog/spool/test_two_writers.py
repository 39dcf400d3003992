"""Who annotates the same frames as we do is named, once, unless they are about to end."""

import pytest

from dvfb_stream.catalog.spool import Spool, delivery
from dvfb_stream.catalog.store_errors import WrittenByAnotherError

from .conftest import PATIENCE, QUICK, documents, until


@pytest.mark.parametrize(("patience", "lines"), [(0.05, 1), (600.0, 0)])
def test_another_writer_is_named_once_it_does_not_end(store, tmp_path, caplog, monkeypatch, patience, lines):
    monkeypatch.setattr(delivery, "_SECONDS_OF_TWO_WRITERS", patience)
    ended = []
    store.fault = lambda kind, uid: (
        None if ended else WrittenByAnotherError(uid, "live session on beamline-7")
    )
    with Spool(store, tmp_path, pace=QUICK) as spool, caplog.at_level("WARNING"):
        for name, doc in documents("a", 3):
            spool(name, doc)
        until(lambda: len(store.calls) > 20)
        ended.append(True)
        assert spool.wait(PATIENCE)
    told = [line for line in caplog.messages if line.startswith("live session on beamline-7 annotates")]
    assert len(told) == lines
    assert list(store.rows["a"]) == [0, 1, 2]
