"""How many KV blocks there are, when nobody says so: what memory allows."""

from __future__ import annotations

import os
from pathlib import Path

import torch

MEBIBYTE = 2**20
SHARE = 0.5
"""Of the memory that is free once the model is loaded, how much keys and values may take at most."""
MOST_BLOCKS = 2**17
"""The pool's own bookkeeping would cost more than the blocks of a tiny model could give back."""
CGROUP = Path("/sys/fs/cgroup")


def blocks_that_fit(kv_bytes: int, bytes_per_block: int) -> int:
    """At least one block, at most `MOST_BLOCKS`."""
    return max(1, min(MOST_BLOCKS, kv_bytes // bytes_per_block))


def kv_bytes(kv_memory_mb: int | None, device: torch.device, weights: int = 0) -> int:
    """The memory asked for, or else a share of what is free once `weights` bytes more are loaded.

    Storage grows with use, so nothing is taken by this.
    """
    return int(SHARE * max(0, free_bytes(device) - weights)) if kv_memory_mb is None else kv_memory_mb * MEBIBYTE


def free_bytes(device: torch.device) -> int:
    """Memory of the device that can still be had; on a CPU the smaller of the machine's and the container's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min([_machine_free(), *_container_free()])


def _machine_free() -> int:
    meminfo = Path("/proc/meminfo")
    for line in meminfo.read_text().splitlines() if meminfo.exists() else ():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2  # no such file: macOS


def _container_free() -> list[int]:
    try:
        limit, used = ((CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return []
    return [] if limit == "max" else [max(0, int(limit) - int(used))]
