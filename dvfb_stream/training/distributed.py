"""Several processes that fit one network together, as torch's own launcher starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed


@dataclass(frozen=True, slots=True)
class Team:
    """Which process of how many this one is."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that measures, writes and speaks."""
        return self.rank == 0

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.size > 1:
            distributed.barrier()

    def agree(self, value: float) -> float:
        """Return the first process's value in all of them."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        distributed.broadcast(shared, src=0)
        return float(shared)


@contextmanager
def team() -> Iterator[Team]:
    """Join the other processes for the time of a fit.

    ``torchrun --nproc-per-node N -m dvfb_stream.training ...`` tells each process, by environment variables, who it
    is; without them there is one.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or distributed.is_initialized():
        yield Team() if size == 1 else Team(distributed.get_rank(), size)
        return
    # Both: tensors of the GPU go by nccl, the few numbers that are agreed on by gloo.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Team(distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()


def own_device(device: str) -> str:
    """Return this process's device: with several processes a node, each takes the GPU of its place."""
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return device
