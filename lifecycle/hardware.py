"""What the machine can do: where to compute, in which numbers, and how fast at best."""

from __future__ import annotations

import ctypes
import math
import os
import time
from functools import cache

import torch

from lifecycle.compiling import cpu_flags
from lifecycle.config import choose
from lifecycle.errors import LifecycleError

DTYPES = {"fp32": torch.float32, "float32": torch.float32, "bf16": torch.bfloat16, "bfloat16": torch.bfloat16}


MALLOC_OPTIONS = {-1: 2**30, -2: 2**26, -3: 2**25}
"""M_TRIM_THRESHOLD: free bytes that are kept. M_TOP_PAD: bytes asked for at once. M_MMAP_THRESHOLD: larger blocks are never kept."""


def choose_device(name: str) -> torch.device:
    """The named device; "auto" is a GPU when there is one. Raises LifecycleError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise LifecycleError(f'device "{name}" was asked for, but torch sees no GPU: use --set device=cpu')
    try:
        device = torch.device(name)
    except RuntimeError:
        raise LifecycleError(f'unknown device "{name}": use "auto", "cpu" or "cuda"') from None
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise LifecycleError(
            f'device "{name}" was asked for, but torch sees {count} GPU{"s" * (count != 1)}, the last of which is cuda:{count - 1}'
        )
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """What to hold weights in: a name of `DTYPES`, or "auto", bf16 where the hardware multiplies it and fp32 where it is emulated.

    Raises LifecycleError for another name.
    """
    if name != "auto":
        return choose("dtype", name, DTYPES)
    native = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else _cpu_has_bf16()
    return torch.bfloat16 if native else torch.float32


def choose_arithmetic(name: str, device: torch.device) -> torch.dtype:
    """What to train in: a name of `DTYPES`, or "auto", bf16 where products are faster in it and fp32 elsewhere.

    Training holds its weights in fp32 anyway and multiplies large matrices, so speed alone decides. A CPU with AVX512-BF16
    and no AMX may multiply bf16 half as fast as fp32. Raises LifecycleError for another name.
    """
    dtype = choose_dtype(name, device)
    if name != "auto" or device.type != "cpu":
        return dtype
    return _agreed[-1] if _agreed else _faster_on_cpu(dtype)


def agree_on_arithmetic(dtype: torch.dtype) -> None:
    """From now on this is what "auto" trains in on a CPU, whatever is found faster (`lifecycle.training.resume.keep_arithmetic`)."""
    _agreed[:] = [dtype]


_agreed: list[torch.dtype] = []


def _faster_on_cpu(held: torch.dtype) -> torch.dtype:
    return torch.float32 if held is torch.bfloat16 and not _cpu_prefers_bf16() else held


@cache
def _cpu_has_bf16() -> bool:
    return not cpu_flags().isdisjoint(("avx512_bf16", "amx_bf16"))


@cache
def _cpu_prefers_bf16(size: int = 512, tries: int = 5) -> bool:
    shortest = dict.fromkeys((torch.bfloat16, torch.float32), math.inf)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # one that waits for others is busy, too: on a machine with more to do products would take any time
    try:
        for _ in range(tries):  # in turns, the best of each, in time of this thread alone
            for dtype in shortest:
                a = torch.ones(size, size, dtype=dtype)
                started = time.thread_time()
                torch.mm(a, a)
                shortest[dtype] = min(shortest[dtype], time.thread_time() - started)
    finally:
        torch.set_num_threads(threads)
    return shortest[torch.bfloat16] < shortest[torch.float32]


def keep_memory() -> None:
    """Let the C library keep memory that was freed, where it can be told to (glibc, so Linux).

    By default it hands large blocks back to the system, which fills every page with zeros when the next step asks for it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        for option, value in MALLOC_OPTIONS.items():
            mallopt(option, value)


def peak_flops(device: torch.device, dtype: torch.dtype, seconds: float = 0.2) -> float:
    """Floating-point operations per second of a large matrix product: what utilisation (MFU) is a part of."""
    size = 4096 if device.type == "cuda" else 768
    a = torch.randn(size, size, device=device).to(dtype)
    result = a @ a  # the first one sets things up
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        result = a @ a
        count += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    assert result.shape == a.shape
    return count * 2 * size**3 / (time.perf_counter() - started)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch found no memory: a GPU has an error of its own for that, the CPU's allocator only a text."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
