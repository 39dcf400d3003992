"""Where the frames of each epoch of a fit come from: the same ones again, or new ones from the simulator."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from dvfb_stream.training.dataset import FRAMES_PER_BLOCK, SimulatedDataset, begin
from dvfb_stream.training.examples import Examples


class EpochFrames(Protocol):
    """What a fit takes its frames from."""

    def __len__(self) -> int:
        """Frames an epoch, at least about."""

    def epoch(self, number: int) -> Examples:
        """Return the frames of an epoch, from 1."""


class FreshFrames:
    """New frames from the simulator for every epoch, the next epoch's made while this one is fitted.

    Parameters
    ----------
    folder
        Room for two epochs' frames.
    dataset
        The first epoch's; later ones go on where it ends.
    epochs
        How many there are; nothing is made beyond the last.
    pool
        Where they are made. Who ends it ends what is being made for the next epoch.
    """

    def __init__(self, folder: Path, dataset: SimulatedDataset, *, epochs: int, pool: Executor) -> None:
        self._folder, self._dataset, self._epochs, self._pool = folder, dataset, epochs, pool
        self._next: tuple[int, Callable[[], Examples]] | None = None

    def __len__(self) -> int:
        return self._dataset.count

    def epoch(self, number: int) -> Examples:
        """Return the frames of an epoch, from 1; those of earlier epochs are deleted."""
        ahead = self._next
        examples = (ahead[1] if ahead and ahead[0] == number else self._begin(number))()
        for old in self._folder.glob("epoch-*"):
            if old not in (self._place(number), self._place(number + 1)):
                shutil.rmtree(old)
        self._next = (number + 1, self._begin(number + 1)) if number < self._epochs else None
        return examples.in_memory()

    def _begin(self, number: int) -> Callable[[], Examples]:
        whole = self._dataset.blocks * FRAMES_PER_BLOCK
        start = self._dataset.start + (number - 1) * whole
        return begin(self._place(number), replace(self._dataset, start=start), self._pool)

    def _place(self, number: int) -> Path:
        return self._folder / f"epoch-{number:04d}"


@dataclass(frozen=True, slots=True)
class StoredFrames:
    """The same examples for every epoch."""

    examples: Examples

    def __len__(self) -> int:
        return len(self.examples)

    def epoch(self, number: int) -> Examples:
        """Return the examples, whatever the epoch."""
        return self.examples
