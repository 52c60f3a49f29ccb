"""What happens to the processes that decode happens to nobody else."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from serving.domain.errors import InvalidRequest, MediaTooLarge
from serving.infrastructure.media.limits import MediaLimits
from serving.infrastructure.media.worker import BYTES_PER_PIXEL, LEAST_BYTES
from serving.infrastructure.media.workers import Worker, Workers

from .files import CLIPS, STILLS, pattern, still

LIMITS = MediaLimits()
PICTURE = STILLS["PNG"]()


@pytest.fixture
def workers():
    workers = Workers()
    yield workers
    for worker in workers._idle:
        worker.end()


def see(workers: Workers, data: bytes = PICTURE, kind: str = "image", limits: MediaLimits = LIMITS):
    return workers.decode(kind, False, data, limits).frames


def test_one_process_serves_one_after_the_other(workers):
    for _ in range(3):
        assert (see(workers)[0] == pattern()).all()
    assert len(workers._idle) == 1
    with pytest.raises(InvalidRequest):
        see(workers, PICTURE[:80])
    assert (see(workers)[0] == pattern()).all() and len(workers._idle) == 1


def test_many_at_once_get_their_own_pictures(workers):
    def look(step: int) -> None:
        right.append((see(workers, still("PNG", pattern(step)))[0] == pattern(step)).all())

    right: list[bool] = []
    threads = [threading.Thread(target=look, args=(step,)) for step in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 4


def test_a_process_that_died_meanwhile_is_replaced(workers):
    see(workers)
    (worker,) = workers._idle
    os.kill(worker._process.pid, signal.SIGSEGV)
    worker._process.wait()
    assert (see(workers)[0] == pattern()).all()
    assert workers._idle != [worker]


def test_all_that_died_meanwhile_are_replaced(workers):
    dead = [Worker() for _ in range(2)]
    for worker in dead:
        worker._process.kill()
        worker._process.wait()
    workers._idle += dead
    assert (see(workers)[0] == pattern()).all()
    assert not {*dead} & {*workers._idle}


def test_a_picture_that_crashes_its_decoder_is_refused_and_others_are_not(workers, tmp_path, monkeypatch):
    """The decoder of this test aborts, as a fault in native code would."""
    (tmp_path / "sitecustomize.py").write_text("import os, PIL.Image\nPIL.Image.open = lambda *_, **__: os.abort()\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(InvalidRequest, match="the decoder crashed over it"):
        see(workers)
    assert len(see(workers, CLIPS["mp4"](), "video")) == LIMITS.media_frames


def test_a_process_that_does_not_notice_the_time_is_killed(workers, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import time, PIL.Image\nPIL.Image.open = lambda *_, **__: time.sleep(99)\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr("serving.infrastructure.media.workers.GRACE", 0.1)
    with pytest.raises(InvalidRequest, match="takes more than 1 seconds to decode"):
        see(workers, limits=MediaLimits(media_decode_seconds=1))
    assert not workers._idle


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded where the system says how much there is")
def test_memory_is_bounded_whatever_a_decoder_does(workers, tmp_path, monkeypatch):
    most = 2 * (LEAST_BYTES + LIMITS.media_pixels * BYTES_PER_PIXEL)  # of which a little may have been free already
    (tmp_path / "sitecustomize.py").write_text(f"import PIL.Image\nPIL.Image.open = lambda *_, **__: bytes({most})\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(MediaTooLarge, match="more memory"):
        see(workers)
    assert len(workers._idle) == 1


def test_a_decoder_finds_no_key_and_writes_no_file(workers, tmp_path, monkeypatch):
    monkeypatch.setenv("LIFECYCLE_API_KEY", "secret")
    there = tmp_path / "there"
    (tmp_path / "sitecustomize.py").write_text(
        "import os, PIL.Image\n"
        "def look(*_, **__):\n"
        f"    with open({str(there)!r}, 'w') as file:\n"
        "        file.write(os.environ.get('LIFECYCLE_API_KEY', 'none'))\n"
        "PIL.Image.open = look\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(InvalidRequest, match="damaged"):
        see(workers)
    assert there.read_text() == ""
    if sys.platform == "linux":
        environment = Path(f"/proc/{workers._idle[0]._process.pid}/environ").read_bytes()
        assert b"secret" not in environment and b"PYTHONPATH" in environment


def test_a_process_ends_with_the_one_that_asked_it():
    worker = Worker()
    worker.decode("image", False, PICTURE, LIMITS)
    worker._process.stdin.close()
    assert worker._process.wait(timeout=20) == 0
    worker.end()
