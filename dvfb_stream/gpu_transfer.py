"""Views on their way to a GPU while it computes: from pinned memory, on a stream of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dvfb_stream.view import View


@dataclass(frozen=True, slots=True, eq=False)
class Transfer:
    """A view that is being copied, or has been."""

    image: torch.Tensor
    """(rows, columns) on the device."""
    mask: torch.Tensor
    """(rows, columns), True where a pixel is valid, on the device."""
    copied: torch.cuda.Event
    """After which both are there."""


class GpuTransfer:
    """Copies views to one CUDA device; `copy` may be called by several threads, while another computes.

    Only for a process that may end with its device: pinned memory is freed by way of events on the device, which a
    lost one does not take, and torch ends the process then.

    Parameters
    ----------
    device
        A CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copy(self, view: View) -> Transfer:
        """Begin to copy a view, and return at once."""
        with torch.cuda.stream(self._stream):
            image, mask = (
                torch.from_numpy(array).pin_memory().to(self._device, non_blocking=True)
                for array in (view.image, view.mask)
            )
            return Transfer(image, mask, self._stream.record_event())

    def batch(self, transfers: Sequence[Transfer]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images and masks of a batch, (B, rows, columns) each; the device waits for them, not the caller."""
        current = torch.cuda.current_stream(self._device)
        for transfer in transfers:
            current.wait_event(transfer.copied)
            for tensor in (transfer.image, transfer.mask):
                # What was made on one stream is not used again before the other is done.
                tensor.record_stream(current)
        images = torch.stack([transfer.image for transfer in transfers])
        return images, torch.stack([transfer.mask for transfer in transfers])
