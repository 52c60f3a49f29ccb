"""The functions of kernels.cpp: compiled on first use, kept in the user's cache, called through ctypes on bf16 tensors.

Where there is no compiler everything is computed by torch instead, which is slower and otherwise the same up to rounding.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = (
    *("-O3", "-std=c++17", "-march=native", "-mprefer-vector-width=512", "-fno-math-errno", "-fno-trapping-math"),
    *("-fopenmp", "-shared", "-fPIC", "-fvisibility=hidden"),
)
"""Never -ffast-math: it would make every number near zero exactly zero in the whole process."""


def can_run(*tensors: Tensor) -> bool:
    """Whether these are what the kernels compute on, and the kernels can be had here."""
    return all(x.dtype is torch.bfloat16 and x.device.type == "cpu" for x in tensors) and library() is not None


def run(name: str, *arguments: Tensor | int | float) -> None:
    """Call a function of kernels.cpp with torch's number of threads; tensors are passed as they lie in memory."""
    getattr(library(), name)(*map(_as_c, arguments), ctypes.c_int(torch.get_num_threads()))


def _as_c(argument: Tensor | int | float) -> ctypes._SimpleCData:
    if isinstance(argument, Tensor):
        assert argument.is_contiguous()
        return ctypes.c_void_p(argument.data_ptr())
    return ctypes.c_float(argument) if isinstance(argument, float) else ctypes.c_int64(argument)


@lru_cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None, and one line in the log, where they cannot be had."""
    try:
        file = _cache_directory() / f"training-{_identity()}.so"
        if not file.exists():
            _build(file)
        return ctypes.CDLL(str(file))
    except (OSError, subprocess.SubprocessError) as error:
        log.info("training without kernels.cpp, which is slower: %s", error)
        return None


def _cache_directory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llm-lifecycle" / "native"


def _identity() -> str:
    """What a library was made from and for: the source, the flags, and the CPU's instructions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else ()
    instructions = next((line for line in lines if line.startswith("flags")), "")
    return hashlib.sha256(f"{FLAGS} {instructions} {SOURCE.read_text()}".encode()).hexdigest()[:16]


def _build(file: Path) -> None:
    """Compile beside the final name and move it there: two processes that build at once do not see each other's halves."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise FileNotFoundError("there is no C++ compiler: install g++, or set CXX")
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as directory:
        built = Path(directory) / file.name
        subprocess.run([compiler, *FLAGS, str(SOURCE), "-o", str(built)], check=True, capture_output=True, timeout=300)
        os.replace(built, file)
