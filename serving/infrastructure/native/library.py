"""The kernels as a shared library: compiled on first use, kept by what it was made from, and called through ctypes.

A CPU that cannot run them, or a machine without a compiler, raises `NativeUnavailable` with the reason in one line.
"""

from __future__ import annotations

import ctypes
import platform
from ctypes import POINTER, c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lifecycle.compiling import CannotCompile, Library, cpu_flags

KERNELS = Path(__file__).parent / "kernels"


class NativeUnavailable(Exception):
    """The kernels cannot be had here; the message says why."""


@dataclass(frozen=True, slots=True)
class Level:
    """An instruction set: what it is called, what the CPU has to list, and what the compiler is told."""

    name: str
    needs: frozenset[str]
    flags: tuple[str, ...]


_V4 = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd", "fma", "bmi2"})
LEVELS = (
    Level(
        "avx512-bf16",
        _V4 | {"avx512_bf16", "avx512_vnni"},
        ("-march=x86-64-v4", "-mavx512bf16", "-mavx512vnni"),
    ),
    Level("avx512", _V4, ("-march=x86-64-v4",)),
    Level("avx2", frozenset({"avx2", "fma", "bmi2", "f16c"}), ("-march=x86-64-v3",)),
)
"""Best first."""


def levels_here() -> list[Level]:
    """The instruction sets that this CPU has, best first."""
    flags = cpu_flags()
    return [level for level in LEVELS if level.needs <= flags]


def best_level() -> Level:
    """Raises NativeUnavailable when this CPU has none of them."""
    found = levels_here()
    if not found:
        raise NativeUnavailable(
            f"this CPU ({platform.machine()}) has none of {', '.join(level.name for level in LEVELS)}"
        )
    return found[0]


@lru_cache
def load(level: Level) -> ctypes.CDLL:
    """The library for an instruction set, built if it is not there. Raises NativeUnavailable."""
    try:
        file = sources(level).compiled()
    except CannotCompile as error:
        raise NativeUnavailable(str(error)) from None
    try:
        library = ctypes.CDLL(str(file))
    except OSError as error:
        raise NativeUnavailable(f"{file} cannot be loaded: {error}; delete it") from None
    library.step.argtypes = (POINTER(Model), POINTER(Scratch), POINTER(Batch))
    library.step.restype = None
    library.pack.argtypes = (c_void_p, c_void_p, c_int32, c_int64)
    library.pack.restype = None
    return library


def sources(level: Level) -> Library:
    """What the library of an instruction set is made from."""
    step = KERNELS / "step.cpp"
    included = [source for source in sorted(KERNELS.iterdir()) if source != step]
    return Library(level.name, step, level.flags, included, platform.machine())


# -- The structures of step.cpp, field by field ---------------------------------------------------------------------------


class Linear(ctypes.Structure):
    _fields_ = [
        ("weights", c_void_p),
        ("bias", c_void_p),
        ("scales", c_void_p),
        ("offsets", c_void_p),
        ("groups", c_int32),
        ("outputs", c_int32),
    ]


class Layer(ctypes.Structure):
    _fields_ = [
        ("qkv", Linear),
        ("out", Linear),
        ("gate_up", Linear),
        ("down", Linear),
        ("attention_norm", c_void_p),
        ("mlp_norm", c_void_p),
        ("query_norm", c_void_p),
        ("key_norm", c_void_p),
        ("keys", c_void_p),
        ("values", c_void_p),
        ("window", c_int32),
        ("rotates", c_int32),
    ]


class Screen(ctypes.Structure):
    _fields_ = [("rounded", Linear), ("error", c_void_p), ("size", c_void_p)]


class Model(ctypes.Structure):
    _fields_ = [
        *((name, c_int32) for name in ("layers", "hidden", "width", "heads", "kv_heads", "head_dim", "vocabulary")),
        ("int8_cache", c_int32),
        *((name, c_float) for name in ("epsilon", "embedding_scale", "residual_scale")),
        *((name, c_float) for name in ("attention_scale", "logit_scale")),
        ("layer", POINTER(Layer)),
        ("embedding", c_void_p),
        ("final_norm", c_void_p),
        ("head", Linear),
        ("screen", Screen),
    ]


class Scratch(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("team", "residual", "normed", "qkv", "attended", "gated")),
        *((name, c_void_p) for name in ("rounded", "rounded_scales", "thread_best", "thread_best_at")),
        *((name, c_void_p) for name in ("row_bounds", "upper", "floor", "seconds")),
    ]


class Batch(ctypes.Structure):
    _fields_ = [
        *((name, c_int32) for name in ("tokens", "sequences", "wanted", "threads", "passes")),
        *((name, c_void_p) for name in ("token", "first_row", "start", "tables", "table_at", "wanted_row")),
        *((name, c_void_p) for name in ("rope", "logits", "temperature", "seed", "position", "best", "best_at")),
    ]
