"""`dvfb daemon` is a command with commands below it, and says in one line what a call lacks."""

import pytest

from dvfb_stream.cli.app import run
from dvfb_stream.cli.process import CALLED_WRONGLY


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["daemon"], "Missing option '--config'. (see dvfb daemon --help)"),
        (["daemon", "--confg", "x"], "No such option: --confg"),
        (["daemon", "nothing"], "No such command 'nothing'. (see dvfb daemon --help)"),
    ],
)
def test_a_wrong_call_is_one_line_with_the_cure(arguments, line, capsys):
    assert run(arguments) == CALLED_WRONGLY
    out, err = capsys.readouterr()
    assert out == ""
    (said,) = err.splitlines()
    assert said.startswith("dvfb: error: ")
    assert line in said
