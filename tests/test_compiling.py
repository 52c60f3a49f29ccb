"""Compiling: once, whole or not at all, and never a crash where there is no compiler."""

import ctypes
from dataclasses import replace

import pytest

from lifecycle.compiling import CannotCompile, Library, cache_directory, is_whole


@pytest.fixture
def three(tmp_path, monkeypatch):
    """A library with one function, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = tmp_path / "three.cpp"
    source.write_text('extern "C" int three() { return 3; }')
    return Library("three", source, ())


def test_a_library_is_compiled_once_and_a_damaged_one_again(three, caplog):
    file = three.compiled()
    content, before = file.read_bytes(), file.stat().st_mtime_ns
    assert ctypes.CDLL(str(file)).three() == 3
    assert three.compiled() == file and file.stat().st_mtime_ns == before and "damaged" not in caplog.text
    file.unlink()  # this process has the old file mapped: damage another
    file.write_bytes(content[:-100])
    assert three.compiled() == file and is_whole(file) and "damaged" in caplog.text
    assert list(cache_directory().iterdir()) == [file]


@pytest.mark.parametrize("content", [b"", b"\x7fELF" + bytes(1000)])
def test_what_is_no_library_of_ours_is_not_whole(tmp_path, content):
    file = tmp_path / "kernels.so"
    assert not is_whole(file)
    file.write_bytes(content)
    assert not is_whole(file)


def test_whatever_it_is_made_from_or_for_names_its_file(three, tmp_path):
    header = tmp_path / "header.h"
    header.write_text("")
    others = [replace(three, flags=("-g",)), replace(three, machine="another"), replace(three, included=[header])]
    files = {one.file for one in (three, *others)}
    three.source.write_text("int four;")
    assert len(files | {three.file}) == 5


def test_without_a_compiler_the_reason_says_what_to_install(three, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(CannotCompile, match=r"install g\+\+"):
        three.compiled()


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(three):
    three.source.write_text("this is not C++")
    with pytest.raises(CannotCompile, match="three.cpp for three: .*error"):
        three.compiled()
    assert list(cache_directory().iterdir()) == []
