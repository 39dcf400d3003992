"""Which device computes: named by users, found by torch."""

from __future__ import annotations

import torch

from dvfb_stream.errors import SettingsError


def full_precision(device: torch.device) -> torch.autocast:
    """Return a context in which products keep the type of their factors, whatever autocast surrounds it."""
    return torch.autocast(device.type, enabled=False)


def find_device(name: str | torch.device) -> torch.device:
    """Return the device that a user named, after a try.

    Parameters
    ----------
    name
        ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:1``, ...

    Raises
    ------
    SettingsError
        When it does not exist here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:  # torch's message lists twenty kinds of device
        raise SettingsError(f"unknown device {name!r}; use auto, cpu, cuda, cuda:1, ...") from error
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(
            f"device {str(name)!r} is not available here: {reason}; use auto or cpu"
        ) from error
    return device
