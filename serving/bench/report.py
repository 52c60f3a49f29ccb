"""Where figures go: one JSON line on the terminal, a file, and a note of the machine that they are from."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from lifecycle.errors import LifecycleError


def emit(figures: Mapping[str, Any], file: Path | None) -> None:
    """Write one JSON line to `file`, and print it. Raises LifecycleError when the file cannot be written.

    The file first: whoever reads only the beginning of what is printed closes the pipe.
    """
    line = json.dumps(figures)
    if file is not None:
        try:
            file.write_text(line + "\n")
        except OSError as error:
            raise LifecycleError(f"cannot write {file}: {error.strerror}") from None
    click.echo(line)


def machine() -> str:
    """Processor and cores that this process may use."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{names[0] if names else platform.processor() or platform.machine()}, {cores} core{'s' * (cores != 1)}"
