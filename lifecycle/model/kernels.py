"""The functions of kernels.cpp: compiled on first use, kept in the user's cache, called through ctypes on bf16 or fp32 tensors.

Where there is no compiler everything is computed by torch instead, which is slower and otherwise the same up to rounding.
"""

from __future__ import annotations

import ctypes
import logging
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from lifecycle.compiling import CannotCompile, Library, cpu_flags

log = logging.getLogger(__name__)

NUMBERS = {torch.bfloat16: "bf16", torch.float32: "float"}
"""What tensors may hold, and its name in kernels.cpp, which is compiled for each on its own."""
FLAGS = ("-march=native", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden")


def can_run(*tensors: Tensor) -> bool:
    """Whether these are what the kernels compute on, all of one kind, and the kernels can be had here."""
    dtype = tensors[0].dtype
    return dtype in NUMBERS and all(x.dtype is dtype and x.device.type == "cpu" for x in tensors) and library(dtype) is not None


def run(name: str, *arguments: Tensor | int | float) -> None:
    """Call a function of kernels.cpp with torch's number of threads; tensors are passed as they lie in memory, without gaps. One that has
    gaps, of which the function is told, is passed by its address, `data_ptr()`.

    The first argument's dtype says for which numbers.
    """
    getattr(library(arguments[0].dtype), name)(*map(_as_c, arguments), ctypes.c_int(torch.get_num_threads()))


def _as_c(argument: Tensor | int | float) -> ctypes._SimpleCData:
    if isinstance(argument, Tensor):
        assert argument.is_contiguous()
        return ctypes.c_void_p(argument.data_ptr())
    return ctypes.c_float(argument) if isinstance(argument, float) else ctypes.c_int64(argument)


@lru_cache
def library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The kernels compiled for this dtype; None, and one line in the log, where they cannot be had."""
    source, flags = Path(__file__).with_suffix(".cpp"), (*FLAGS, f"-DNUMBER={NUMBERS[dtype]}")
    try:
        return ctypes.CDLL(str(Library("training", source, flags, machine=" ".join(sorted(cpu_flags()))).compiled()))
    except (CannotCompile, OSError) as error:
        log.info("training without kernels.cpp, which is slower: %s", error)
        return None
