"""What the tests of files share: the opener of files, and another process that writes one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dvfb_stream.files.frame_files import FrameFiles
from dvfb_stream.files.references import Expected

ANY = Expected(None, None)


@pytest.fixture
def files():
    opened = FrameFiles()
    yield opened
    opened.close()


WRITER = """
import ast
import sys
import h5py
import numpy as np

path, settings = sys.argv[1], ast.literal_eval(sys.argv[2])
with h5py.File(path, "w", libver="latest") as file:
    data = file.create_dataset("d", dtype="u2", **settings)
    file.swmr_mode = True
    print("open", flush=True)
    for line in sys.stdin:
        number = int(line)
        if number >= len(data):
            data.resize(number + 1, axis=0)
        data[number] = number + 1
        data.flush()
        print("written", flush=True)
print("closed", flush=True)
sys.stdin.close()
"""


class Writer:
    """Another process that writes a file while it is read; frame n is full of n + 1."""

    def __init__(self, path, **settings):
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, path, repr(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "open\n"

    def write(self, number):
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "written\n"

    def close(self):
        self.process.stdin.close()
        assert self.process.stdout.read() == "closed\n"
        assert self.process.wait() == 0
        self.process.stdout.close()


GROWING = {"shape": (0, 30, 40), "maxshape": (None, 30, 40), "chunks": (1, 30, 40)}
PREALLOCATED = {"shape": (6, 30, 40), "chunks": (1, 30, 40)}
