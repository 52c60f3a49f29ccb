"""The machine that a plan is for: this one, one by its data sheet, or one that is told."""

from __future__ import annotations

import math
import os
from dataclasses import replace

from lifecycle.config import choose
from lifecycle.planning import roofline
from lifecycle.planning.serving import HOSTS, Host

HERE = "here"
SMALLEST_BUFFER, LARGEST_BUFFER = 2**20, 2**29


def described(
    name: str, memory_gb: float | None, bandwidth_gb: float | None, tflops: float | None, weights: float = math.inf
) -> Host:
    """A host of `HOSTS` or this one, with what is told besides in place of what is known.

    This one is measured only where something is not told, reading as many bytes as there are `weights`: those of a small model
    stay in the processor's caches. Raises LifecycleError for an unknown name.
    """
    told = bandwidth_gb is not None and tflops is not None
    if name == HERE:
        machine = roofline.Machine(0.0, 0.0) if told else roofline.measure(buffer_bytes=int(min(LARGEST_BUFFER, max(SMALLEST_BUFFER, weights))))
        host = Host(machine, _memory(), "as told" if told else "as measured here")
    else:
        host = choose("machine", name, {HERE: None, **HOSTS})
    given = {"bytes_per_s": bandwidth_gb and bandwidth_gb * 1e9, "flop_per_s": tflops and tflops * 1e12}
    machine = replace(host.machine, **{key: value for key, value in given.items() if value})
    source = host.source if machine == host.machine else f"{host.source}, changed as told" if name != HERE else "as told"
    return Host(machine, memory_gb * 1e9 if memory_gb else host.memory_bytes, source)


def _memory() -> float:
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
