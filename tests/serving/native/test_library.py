"""Building the kernels: once, whole or not at all, and never a crash where they cannot be had."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lifecycle.compiling import cache_directory
from serving.infrastructure.native import library
from serving.infrastructure.native.library import NativeUnavailable


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and nothing loaded before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library.load.cache_clear()
    yield cache_directory()
    library.load.cache_clear()


@pytest.fixture
def level():
    return library.best_level()


def test_other_sources_make_another_library(cache, level, tmp_path, monkeypatch):
    before = library.sources(level).file
    kernels = tmp_path / "kernels"
    kernels.mkdir()
    for source in library.KERNELS.iterdir():
        (kernels / source.name).write_bytes(source.read_bytes() + b"\n" * (source.name != "step.cpp"))
    monkeypatch.setattr(library, "KERNELS", kernels)
    assert library.sources(level).file != before


@pytest.mark.slow
def test_two_processes_may_build_at_once(cache, level):
    code = "from serving.infrastructure.native import library as l; l.load(l.best_level())"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait(120) for process in running] == [0, 0]
    assert len(list(cache.iterdir())) == 1


def test_without_a_compiler_the_reason_says_what_to_install(cache, level, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(NativeUnavailable, match=r"install g\+\+"):
        library.load(level)


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(cache, level, monkeypatch):
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(NativeUnavailable, match=level.name):
        library.load(level)
    assert list(cache.iterdir()) == []


def test_an_unknown_cpu_is_told_which_would_do(monkeypatch):
    monkeypatch.setattr(library, "cpu_flags", lambda: frozenset({"asimd"}))
    with pytest.raises(NativeUnavailable, match="avx2"):
        library.best_level()
