"""Whatever happens to a publisher, readers see a complete version or none."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lifecycle.errors import LifecycleError
from lifecycle.registry import ModelRegistry
from tests.registry.conftest import leftovers

HERE = Path(__file__).parent


@pytest.mark.parametrize("operation", ["publish", "alias", "collect"])
def test_killed_at_any_file_operation_leaves_the_registry_sound(operation: str, tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "crashing.py"), operation, str(tmp_path / "registry")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 10, "the driver no longer sees the file operations"


def publisher(root: Path, times: int) -> subprocess.Popen:
    """Publishes `times` versions of "sft" as soon as its standard input says so."""
    code = f"""
import sys
from lifecycle.registry import ModelRegistry
sys.stdin.read(1)
for _ in range({times}):
    ModelRegistry({str(root)!r}).publish("sft", lambda path: (path / "config.json").write_text("mine"))
"""
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)


@pytest.mark.parametrize(("processes", "times"), [(2, 5), (8, 2)])
def test_processes_that_publish_at_once_all_succeed_with_numbers_of_their_own(
    registry: ModelRegistry, processes: int, times: int
) -> None:
    running = [publisher(registry.root, times) for _ in range(processes)]
    for process in running:
        process.stdin.write(b"!")
        process.stdin.flush()
    assert [process.wait(timeout=60) for process in running] == [0] * processes
    assert [version.number for version in registry.versions("sft")] == list(range(1, processes * times + 1))
    assert not any(registry.verify(ref) for ref in registry.refs())
    assert leftovers(registry) == []


def test_readers_never_see_half_a_version_while_others_publish_and_collect(registry: ModelRegistry, write) -> None:
    registry.publish("sft", write)
    process = publisher(registry.root, 12)
    process.stdin.write(b"!")
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        versions = registry.versions("sft")
        assert versions == sorted(versions, key=lambda version: version.number) != []
        registry.gc(keep=1)
    assert process.wait(timeout=1) == 0
    assert registry.latest("sft").number == 13


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError("out of luck")])
def test_an_exception_while_writing_passes_through_and_leaves_nothing(registry: ModelRegistry, write, error) -> None:
    def interrupted(directory: Path) -> None:
        write(directory)
        raise error

    with pytest.raises(error if isinstance(error, type) else type(error)):
        registry.publish("sft", interrupted)
    assert registry.names() == [] and leftovers(registry) == []
    assert registry.publish("sft", write).ref == "sft/1"


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_is_one_clear_line_and_nothing_is_published(registry: ModelRegistry, write) -> None:
    def overflow(directory: Path) -> None:
        write(directory)
        with open("/dev/full", "w") as device:
            device.write("x")

    with pytest.raises(LifecycleError, match=f"disk is full: nothing was published to the registry {registry.root}"):
        registry.publish("sft", overflow)
    assert registry.names() == [] and leftovers(registry) == []


def test_a_full_disk_that_a_library_reports_in_its_own_words_is_recognised(registry: ModelRegistry) -> None:
    def overflow(directory: Path) -> None:
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(LifecycleError, match="disk is full"):
        registry.publish("sft", overflow)


def test_a_disk_that_fills_up_while_the_registry_syncs(registry: ModelRegistry, write, monkeypatch) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    registry.publish("sft", write)
    registry.set_alias("production", "sft/1")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(LifecycleError, match="disk is full"):
            registry.publish("sft", write)
        with pytest.raises(LifecycleError, match="disk is full; it points where it did"):
            registry.set_alias("staging", "sft/1")
    assert registry.refs() == ["sft/1"] and registry.aliases() == {"production": "sft/1"} and leftovers(registry) == []


def test_a_registry_that_cannot_be_written_says_what_to_set(tmp_path: Path, write) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(LifecycleError, match="cannot write to the registry .*LIFECYCLE_REGISTRY"):
        ModelRegistry(tmp_path / "file").publish("sft", write)


def test_collecting_garbage_spares_a_live_publisher_and_takes_a_dead_one(registry: ModelRegistry) -> None:
    code = f"""
import sys
from lifecycle.registry import ModelRegistry
ModelRegistry({str(registry.root)!r}).publish("sft", lambda path: (print("writing", flush=True), sys.stdin.read()))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"writing\n"
    assert registry.gc().temporary == () and len(leftovers(registry)) == 1
    process.kill()
    process.wait()
    assert len(registry.gc(dry_run=True).temporary) == 1 and len(leftovers(registry)) == 1
    assert len(registry.gc().temporary) == 1 and leftovers(registry) == []
