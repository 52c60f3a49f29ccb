"""The kernels as a shared library: compiled on first use, kept by what it was made from, and called through ctypes.

A CPU that cannot run them, or a machine without a compiler, raises `NativeUnavailable` with the reason in one line.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from ctypes import POINTER, c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

log = logging.getLogger(__name__)

KERNELS = Path(__file__).parent / "kernels"
COMMON_FLAGS = ("-O3", "-std=c++17", "-fopenmp", "-shared", "-fPIC", "-mprefer-vector-width=512")
"""Never -ffast-math: it would make every number near zero exactly zero in the whole process."""
DIGEST = 32
"""Bytes of sha256 that stand behind a library in its file; the loader ignores them."""


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


def cpu_flags() -> frozenset[str]:
    """What the CPU says it can do; empty where nobody can be asked."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else ()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


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
    file = cache_directory() / f"{_identity(level)}.so"
    if not _is_whole(file):
        _build(level, file)
    try:
        library = ctypes.CDLL(str(file))
    except OSError as error:
        raise NativeUnavailable(f"{file} cannot be loaded: {error}; delete it") from None
    library.step.argtypes = (POINTER(Model), POINTER(Scratch), POINTER(Batch))
    library.step.restype = None
    library.pack.argtypes = (c_void_p, c_void_p, c_int32, c_int64)
    library.pack.restype = None
    return library


def cache_directory() -> Path:
    """Where built libraries are kept: XDG_CACHE_HOME/llm-lifecycle/native, below ~/.cache by default."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llm-lifecycle" / "native"


def _sources() -> Iterable[Path]:
    return sorted(KERNELS.iterdir())


def _identity(level: Level) -> str:
    digest = hashlib.sha256(repr((level.name, COMMON_FLAGS, level.flags, platform.machine())).encode())
    for source in _sources():
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return f"{level.name}-{digest.hexdigest()[:16]}"


def _is_whole(file: Path) -> bool:
    """Whether a library is all there: a cut one would be loaded, and kill the process when it is called."""
    try:
        content = file.read_bytes()
    except OSError:
        return False
    whole = hashlib.sha256(content[:-DIGEST]).digest() == content[-DIGEST:]
    if not whole:
        log.warning("%s is damaged and will be built again", file)
    return whole


def _build(level: Level, file: Path) -> None:
    """Compile beside the final name and move it there: two processes that build at once do not see each other's halves."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise NativeUnavailable("there is no C++ compiler: install g++, or set CXX")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as directory:
            built = Path(directory) / "kernels.so"
            command = [compiler, *COMMON_FLAGS, *level.flags, str(KERNELS / "step.cpp"), "-o", str(built)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            if done.returncode:
                message = (done.stderr.strip().splitlines() or ["no message"])[0]
                raise NativeUnavailable(f"{compiler} cannot build the kernels for {level.name}: {message}")
            with open(built, "r+b") as library:
                content = library.read()
                library.write(hashlib.sha256(content).digest())
            os.replace(built, file)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeUnavailable(f"the kernels cannot be built in {file.parent}: {error}") from None
    log.info("built the kernels for %s with %s", level.name, compiler)


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
        *((name, c_void_p) for name in ("rope", "logits", "best", "best_at")),
    ]
