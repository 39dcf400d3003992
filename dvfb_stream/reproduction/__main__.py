"""`python -m dvfb_stream.training` with the presets of the paper's peers, too."""

import sys

import dvfb_stream.reproduction.peer_networks  # noqa: F401 - makes them known
from dvfb_stream.training.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
