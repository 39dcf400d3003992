"""The position says what is done, of what was begun since a time, and belongs to one daemon."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from dvfb_stream.errors import SettingsError
from dvfb_stream.tiled_stream.position import MARGIN, Position


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "below" / "position.json"


def test_what_is_done_is_known_to_the_next(path: Path):
    with Position(path) as position:
        assert position.since is None
        position.begin(1000.0, [("old", 1001.0)])
        position.settle("new", 1002.0)
        position.save(oldest_open=None)
    with Position(path) as position:
        assert position.since == 1000.0
        assert "old" in position
        assert "new" in position
        assert "other" not in position


def test_it_moves_on_a_day_behind_the_newest_but_never_past_a_run_that_is_not_done(path: Path):
    now = time.time()
    with Position(path) as position:
        position.begin(now - 10 * MARGIN, [])
        position.settle("older", now - 9 * MARGIN)
        position.settle("newest", now)
        position.save(oldest_open=now - 5 * MARGIN)
        assert position.since == now - 5 * MARGIN
        assert "older" not in position  # begun before all that is looked for
        position.settle("another", now)
        position.save(oldest_open=None)
        assert position.since == now - MARGIN
    with Position(path) as position:
        assert "newest" in position


def test_a_run_with_a_time_of_the_far_future_does_not_move_it_there(path: Path):
    with Position(path) as position:
        position.begin(1000.0, [])
        position.settle("wrong clock", time.time() + 1e9)
        position.save(oldest_open=None)
        assert position.since is not None
        assert position.since < time.time() - MARGIN + 60


def test_two_daemons_do_not_share_it(path: Path):
    with Position(path), pytest.raises(SettingsError, match="another daemon goes on from"):
        Position(path)
    Position(path).close()


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"version": 2}', '{"version": 1, "since": "x", "done": {}}']
)
def test_what_is_no_position_is_refused_with_the_cure(path: Path, content: str):
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(SettingsError, match="move the file away"):
        Position(path)
    path.unlink()
    Position(path).close()  # the lock was let go


def test_it_is_replaced_as_a_whole(path: Path):
    with Position(path) as position:
        position.begin(1000.0, [])
        position.settle("one", 1001.0)
        position.save(oldest_open=None)
        assert json.loads(path.read_text())["done"] == {"one": 1001.0}
        assert [file.name for file in path.parent.iterdir() if file.suffix == ".new"] == []
