"""Which device computes, and in which precision: named by users, found by torch and asked of the processor."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import torch

from dvfb_stream.errors import SettingsError

PRECISIONS = ("auto", "float32", "bfloat16")
"""Of the products of a network, as users name them."""

NATIVE_FLAGS = {"avx512_bf16", "amx_bf16"}
"""What Linux calls the instructions that multiply bfloat16. Without them a convolution takes up to twenty times as
long as in float32. No other processor's have been measured, so that all others compute in float32."""


def find_precision(name: str, device: torch.device | str) -> str:
    """Return ``float32`` or ``bfloat16``; ``auto`` is bfloat16 where the device multiplies it natively.

    Parameters
    ----------
    name
        One of `PRECISIONS`.
    device
        Where the network computes.

    Raises
    ------
    SettingsError
        When there is no such precision.
    """
    if name not in PRECISIONS:
        raise SettingsError(f"precision must be one of {', '.join(PRECISIONS)}, not {name!r}")
    if name != "auto":
        return name
    if torch.device(device).type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = _processor_has_bfloat16()
    return "bfloat16" if native else "float32"


def in_precision(precision: str, device: torch.device | str) -> torch.autocast:
    """Return a context in which a network's products are made in ``float32`` or ``bfloat16``."""
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


@functools.cache
def _processor_has_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return has_bfloat16(flags, os.environ.get("ONEDNN_MAX_CPU_ISA", "DEFAULT"))


def has_bfloat16(flags: str, allowed: str) -> bool:
    """Return whether bfloat16 is multiplied natively, from a processor's flags and what oneDNN may use of them.

    Parameters
    ----------
    flags
        As in /proc/cpuinfo.
    allowed
        As in ``ONEDNN_MAX_CPU_ISA``: DEFAULT, AVX2, AVX512_CORE_BF16, ... oneDNN is what convolves.
    """
    kinds = ("DEFAULT", "BF16", "FP16", "AMX", "AVX10")
    return any(kind in allowed.upper() for kind in kinds) and not NATIVE_FLAGS.isdisjoint(flags.split())


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
