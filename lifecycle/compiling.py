"""C++ sources as a shared library: compiled on first use, kept in the user's cache by what it was made from, whole or not at all."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

COMMON_FLAGS = ("-O3", "-std=c++17", "-fopenmp", "-shared", "-fPIC", "-mprefer-vector-width=512")
"""Never -ffast-math: it would make every number near zero exactly zero in the whole process."""
DIGEST = 32
"""Bytes of sha256 that stand behind a library in its file; the loader ignores them."""


class CannotCompile(Exception):
    """There is no compiler, or it fails; the message says why."""


@dataclass(frozen=True, slots=True)
class Library:
    """What a library is made from and for."""

    name: str
    """The beginning of its file's name."""
    source: Path
    """What the compiler is given."""
    flags: tuple[str, ...]
    """Beside `COMMON_FLAGS`."""
    included: Sequence[Path] = ()
    """Other files that the source includes."""
    machine: str = ""
    """What the code depends on beyond the flags, such as a CPU's instructions where it is compiled for this very one."""

    @property
    def file(self) -> Path:
        """Where it is kept: another place for every other source, flag and machine."""
        digest = hashlib.sha256(repr((self.name, COMMON_FLAGS, self.flags, self.machine)).encode())
        for source in (self.source, *self.included):
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
        return cache_directory() / f"{self.name}-{digest.hexdigest()[:16]}.so"

    def compiled(self) -> Path:
        """Its file, compiled if it is not there or damaged. Raises CannotCompile."""
        file = self.file
        if not is_whole(file):
            self._compile(file)
        return file

    def _compile(self, file: Path) -> None:
        """Beside the final name, then moved there: two processes that compile at once do not see each other's halves."""
        compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
        if compiler is None:
            raise CannotCompile("there is no C++ compiler: install g++, or set CXX")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=file.parent) as directory:
                built = Path(directory) / file.name
                command = [compiler, *COMMON_FLAGS, *self.flags, str(self.source), "-o", str(built)]
                done = subprocess.run(command, capture_output=True, text=True, timeout=300)
                if done.returncode:
                    message = (done.stderr.strip().splitlines() or ["no message"])[0]
                    raise CannotCompile(f"{compiler} cannot compile {self.source.name} for {self.name}: {message}")
                with open(built, "r+b") as library:
                    content = library.read()
                    library.write(hashlib.sha256(content).digest())
                os.replace(built, file)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CannotCompile(f"{self.source.name} cannot be compiled in {file.parent}: {error}") from None
        log.info("compiled %s for %s with %s", self.source.name, self.name, compiler)


def cache_directory() -> Path:
    """Where libraries are kept: XDG_CACHE_HOME/llm-lifecycle/native, below ~/.cache by default."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llm-lifecycle" / "native"


def is_whole(file: Path) -> bool:
    """Whether a library is all there: a cut one would be loaded, and kill the process when it is called."""
    try:
        content = file.read_bytes()
    except OSError:
        return False
    whole = hashlib.sha256(content[:-DIGEST]).digest() == content[-DIGEST:]
    if not whole:
        log.warning("%s is damaged and will be built again", file)
    return whole


def cpu_flags() -> frozenset[str]:
    """What the CPU says it can do; empty where nobody can be asked."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else ()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())
