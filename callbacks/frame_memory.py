"""Moves to the worker; until its callers have followed."""

from dvfb_stream.worker.frame_memory import FrameMemory

__all__ = ["FrameMemory"]
