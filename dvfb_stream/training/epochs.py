"""Where the frames of each epoch of a fit come from: the same ones again, or new ones from the simulator."""

from __future__ import annotations

import shutil
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

from dvfb_stream.training.dataset import FRAMES_PER_BLOCK, SimulatedDataset, build
from dvfb_stream.training.examples import Examples


class EpochFrames(Protocol):
    """What a fit takes its frames from."""

    def __len__(self) -> int:
        """Frames an epoch, at least about."""

    def epoch(self, number: int) -> Examples:
        """Return the frames of an epoch, from 1."""

    def close(self) -> None:
        """Let go of what is open."""


class FreshFrames:
    """A stream from the simulator: new frames for every epoch, the next epoch's made while this one is fitted.

    Parameters
    ----------
    folder
        Room for two epochs' frames.
    dataset
        The first epoch's; later ones go on where it ends.
    epochs
        How many there are; nothing is made beyond the last.
    processes
        Simulating at a time.
    """

    def __init__(self, folder: Path, dataset: SimulatedDataset, *, epochs: int, processes: int = 1) -> None:
        self._folder = folder
        self._epochs = epochs
        self._dataset = dataset
        self._processes = processes
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self._next: tuple[int, Future[None]] | None = None

    def __len__(self) -> int:
        return self._dataset.count

    def epoch(self, number: int) -> Examples:
        """Return the frames of an epoch, from 1; those of earlier epochs are deleted."""
        if self._next is not None and self._next[0] == number:
            self._next[1].result()
        examples = build(self._place(number), self._of(number), processes=self._processes)
        for old in self._folder.glob("epoch-*"):
            if old not in (self._place(number), self._place(number + 1)):
                shutil.rmtree(old)
        if number < self._epochs:
            following = self._place(number + 1), self._of(number + 1), self._processes
            self._next = number + 1, self._pool.submit(_prefetch, *following)
        return examples.in_memory()

    def close(self) -> None:
        """Stop making frames."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _place(self, number: int) -> Path:
        return self._folder / f"epoch-{number:04d}"

    def _of(self, number: int) -> SimulatedDataset:
        whole = self._dataset.blocks * FRAMES_PER_BLOCK
        return replace(self._dataset, start=self._dataset.start + (number - 1) * whole)


def _prefetch(folder: Path, dataset: SimulatedDataset, processes: int) -> None:
    build(folder, dataset, processes=processes)


@dataclass(frozen=True, slots=True)
class StoredFrames:
    """The same examples for every epoch."""

    examples: Examples

    def __len__(self) -> int:
        return len(self.examples)

    def epoch(self, number: int) -> Examples:
        """Return the examples, whatever the epoch."""
        return self.examples

    def close(self) -> None:
        """Nothing is left open."""
