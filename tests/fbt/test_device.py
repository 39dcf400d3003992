"""Which precision a device computes in: bfloat16 only where it multiplies it natively."""

import os
import sys
import time
from pathlib import Path

import pytest
import torch

from dvfb_stream.errors import SettingsError
from dvfb_stream.fbt.device import NATIVE_FLAGS, PRECISIONS, find_precision, has_bfloat16, in_precision


def test_a_named_precision_is_taken_as_it_is_and_auto_is_decided():
    assert find_precision("float32", "cpu") == "float32"
    assert find_precision("bfloat16", "cpu") == "bfloat16"
    assert find_precision("auto", "cpu") in PRECISIONS[1:]
    with pytest.raises(SettingsError, match="precision must be one of auto, float32, bfloat16, not 'half'"):
        find_precision("half", "cpu")


def test_products_are_in_the_precision_that_was_found():
    factor = torch.ones(2, 2)
    with in_precision("bfloat16", "cpu"):
        assert (factor @ factor).dtype is torch.bfloat16
    with in_precision("float32", "cpu"):
        assert (factor @ factor).dtype is torch.float32


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/cpuinfo is Linux's")
def test_auto_is_what_linux_says_of_the_processor():
    flags = next(
        (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), ""
    )
    has = any(flag in flags.split() for flag in NATIVE_FLAGS)
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", "DEFAULT")
    if allowed == "DEFAULT":
        assert find_precision("auto", "cpu") == ("bfloat16" if has else "float32")


@pytest.mark.parametrize(
    ("allowed", "flags", "precision"),
    [
        ("DEFAULT", "fpu avx512_bf16", "bfloat16"),
        ("DEFAULT", "fpu amx_bf16", "bfloat16"),
        ("DEFAULT", "fpu avx2 avx512f", "float32"),
        ("AVX2", "fpu amx_bf16", "float32"),
        ("AVX512_CORE", "avx512_bf16", "float32"),
        ("avx512_core_bf16", "avx512_bf16", "bfloat16"),
    ],
)
def test_auto_asks_for_native_instructions_and_whether_they_may_be_used(allowed, flags, precision):
    assert ("bfloat16" if has_bfloat16(flags, allowed) else "float32") == precision


def test_auto_is_not_the_slow_one():
    """A 5 x 5 convolution in the chosen precision takes no more than twice as long as in the other."""
    images, weights = torch.randn(4, 16, 64, 64), torch.randn(32, 16, 5, 5)

    def seconds(precision):
        best = float("inf")
        for _ in range(4):
            started = time.perf_counter()
            with in_precision(precision, "cpu"):
                torch.nn.functional.conv2d(images, weights)
            best = min(best, time.perf_counter() - started)
        return best

    chosen = find_precision("auto", "cpu")
    (other,) = set(PRECISIONS[1:]) - {chosen}
    assert seconds(chosen) < 2 * seconds(other)
