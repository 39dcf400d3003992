"""`python -m dvfb_stream.training` with the presets of the paper's peers, too."""

import sys

from dvfb_stream.training.__main__ import main
from dvfb_stream.waiting_threads import sleep_while_waiting

if __name__ == "__main__":
    sleep_while_waiting()
    import dvfb_stream.reproduction.peer_networks  # noqa: F401 - makes them known

    sys.exit(main())
