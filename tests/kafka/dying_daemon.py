"""A daemon as a process that some frames or messages kill. Usage: dying_daemon.py SETTINGS.json HOW."""

import ctypes
import json
import os
import signal
import sys

from dvfb_stream.daemon.settings import DaemonSettings
from dvfb_stream.daemon.sinks import JsonLinesSink
from dvfb_stream.kafka import daemon as daemon_module
from tests.kafka.conftest import DETECTORS, BrightnessAnnotator

KILLER = 666
"""Brightness of the frame that kills."""


def die(how):
    match how:
        case "crash":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise RuntimeError("nobody foresaw this")


class DyingAnnotator(BrightnessAnnotator):
    def annotate(self, frames):
        if any(frame.pixels.max() == KILLER for frame in frames):
            die(HOW)
        return super().annotate(frames)


def main(settings, how):
    settings = DaemonSettings.model_validate(settings)
    sink = JsonLinesSink(settings.sinks.jsonl)
    decode = daemon_module.decode

    def deadly_decode(message, **limits):
        if b"kills" in message:
            die(how)
        return decode(message, **limits)

    daemon_module.decode = deadly_decode
    running = daemon_module.Daemon(
        settings, DyingAnnotator(), detectors=DETECTORS, sinks_for_partition=lambda: [sink]
    )
    running.in_hand.record_faults()
    signal.signal(signal.SIGTERM, lambda number, frame: running.stop())
    running.run()


if __name__ == "__main__":
    HOW = sys.argv[2]
    with open(sys.argv[1]) as file:
        main(json.load(file), HOW)
