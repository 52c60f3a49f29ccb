"""What a stage costs: time, processor time, memory and, where the machine tells it, energy."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
"""Where Linux tells what whole processors have used (RAPL), in microjoules; often readable by root only."""
PROCESS = Path("/proc/self")


class CostMeter:
    """Measures this process, and children that have ended, from its making on.

    With `kept`, a file, an interrupted run's seconds count from where `keep` last wrote them.

    On Linux the peak of memory is that of this stretch; elsewhere, that of the process so far. Energy is that of the
    whole machine's processors, whoever else computes.

    >>> meter = CostMeter()
    >>> registry.publish("sft", write, seconds=meter.seconds, cost=meter.read(tokens=1_000_000))
    """

    def __init__(self, kept: Path | None = None) -> None:
        with suppress(OSError):
            (PROCESS / "clear_refs").write_text("5")  # the peak counts from here on (man 5 proc)
        _reset_gpu()
        self._energy = dict(_energy_counters())
        self._cpu = _cpu_seconds()
        self._started = time.perf_counter()
        self._kept = kept
        if kept is not None and kept.is_file():
            earlier = json.loads(kept.read_text())
            self._started -= earlier["wall_seconds"]
            self._cpu -= earlier["cpu_seconds"]

    def keep(self) -> None:
        """Write down the seconds so far, whole or not at all."""
        assert self._kept is not None
        partial = self._kept.with_suffix(".partial")
        partial.write_text(json.dumps({"wall_seconds": self.seconds, "cpu_seconds": self.cpu_seconds}))
        os.replace(partial, self._kept)

    @property
    def seconds(self) -> float:
        """Wall-clock time so far."""
        return time.perf_counter() - self._started

    @property
    def cpu_seconds(self) -> float:
        """Processor time so far."""
        return _cpu_seconds() - self._cpu

    def read(self, tokens: float | None = None, earlier: Mapping[str, float] | None = None) -> dict[str, float | int]:
        """For a manifest: wall_seconds, cpu_seconds, peak_memory_bytes, and what is known of tokens, peak_gpu_bytes and joules.

        `earlier` are figures that a resumed run has summed over its interruptions: they replace this stretch's.
        """
        cost: dict[str, float | int] = {} if tokens is None else {"tokens": int(tokens)}
        cost |= {
            "wall_seconds": round(self.seconds, 3),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "peak_memory_bytes": _peak_memory(),
        }
        if (gpu := _peak_gpu()) is not None:
            cost["peak_gpu_bytes"] = gpu
        if (joules := self._joules()) is not None:
            cost["joules"] = joules
        return {**cost, **(earlier or {})}

    def _joules(self) -> float | None:
        now = dict(_energy_counters())
        if not self._energy or now.keys() != self._energy.keys():
            return None
        spent = 0
        for counter, value in now.items():
            used = value - self._energy[counter]
            spent += used if used >= 0 else used + int((counter / "max_energy_range_uj").read_text())  # it went round
        return round(spent / 1e6, 3)


def _energy_counters() -> Iterator[tuple[Path, int]]:
    """Each processor package and its counter; the domains below a package are contained in it."""
    for zone in sorted(POWERCAP.glob("intel-rapl:*")):
        if zone.name.count(":") == 1:
            with suppress(OSError, ValueError):
                yield zone, int((zone / "energy_uj").read_text())


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _peak_memory() -> int:
    """Bytes of resident memory at most."""
    with suppress(OSError, StopIteration):
        lines = (PROCESS / "status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _reset_gpu() -> None:
    if (torch := _torch_with_gpu()) is not None:
        torch.cuda.reset_peak_memory_stats()


def _peak_gpu() -> int | None:
    torch = _torch_with_gpu()
    return None if torch is None else int(torch.cuda.max_memory_allocated())


def _torch_with_gpu():
    """torch when it is imported and uses a GPU already: measuring must not start one."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized() else None
