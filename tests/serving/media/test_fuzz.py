"""Damaged files of every format: media or a documented error, never anything else, and no memory is kept.

`MEDIA_CASES=5000 pytest tests/serving/media/test_fuzz.py -s` is the long run; it prints what came out.
"""

from __future__ import annotations

import gc
import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from serving.domain.errors import InvalidRequest
from serving.infrastructure.media.limits import MediaLimits
from serving.infrastructure.media.reader import MediaReader

from .files import CLIPS, STILLS, clip, source

CASES = int(os.environ.get("MEDIA_CASES", "200"))
LIMITS = MediaLimits(media_kept_pixels=4096, media_frames=4, media_pixels=2**20, media_seconds=30)
MOST_GROWTH = 48 * 2**20
"""Bytes that a process may have grown by in the second half of the cases: allocators keep some, and a leak has no bound."""


def resident() -> int:
    """Bytes in memory of this process and of those that decode for it. Threads and processes may end while they are looked at."""
    processes, pages = {"self"}, 0
    for thread in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError, ProcessLookupError):
            processes.update(Path(f"/proc/self/task/{thread}/children").read_text().split())
    for process in processes:
        with suppress(FileNotFoundError, ProcessLookupError):
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The file after one to eight accidents."""
    broken = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at, size = rng.randrange(len(broken) or 1), rng.choice((1, 1, 2, 4, 32))
        if rng.random() < 0.4:
            at = rng.randrange(min(64, len(broken)) or 1)  # headers are where decisions are made
        match rng.randrange(6):
            case 0:
                broken[at : at + size] = rng.randbytes(size)
            case 1:
                broken[at : at + size] = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * size
            case 2:
                del broken[at : at + size]
            case 3:
                broken[at:at] = broken[at : at + 64 * size]
            case 4:
                del broken[max(16, at) :]
            case 5 if broken:
                broken[at % len(broken)] ^= 1 << rng.randrange(8)
    return bytes(broken)


def cases(seed: int) -> Iterator[tuple[str, str, bytes]]:
    """(name, kind asked for, damaged file) without end."""
    rng = random.Random(seed)
    files = [(name, "image", make()) for name, make in STILLS.items()]
    files += [(name, "video", make()) for name, make in CLIPS.items()]
    files += [("vp9", "video", clip("webm", "libvpx-vp9", 6)), ("mpeg4", "video", clip("mp4", "mpeg4", 6))]
    while True:
        for name, kind, data in files:
            asked = kind if rng.random() < 0.95 else rng.choice(("image", "video"))
            yield name, asked, damaged(data, rng)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from Linux's /proc")
def test_damaged_files_are_media_or_documented_errors():
    read, found, middle = MediaReader(LIMITS), Counter(), 0
    for number, (name, kind, data) in zip(range(CASES), cases(7), strict=False):
        if number == CASES // 2:
            gc.collect()
            middle = resident()
        try:
            (media,) = read([source(kind, data)])
        except InvalidRequest as error:
            assert error.status in (400, 413, 415) and error.param == "here", error
            assert "crashed" not in error.message, (number, name)
            found[name, error.status] += 1
            continue
        found[name, 200] += 1
        assert media.kind == kind and len(media.frames) == len(media.times) <= LIMITS.media_frames
        for frame in media.frames:
            assert frame.dtype == "uint8" and frame.shape[2] == 3
            assert 0 < frame.shape[0] * frame.shape[1] <= LIMITS.media_kept_pixels
    gc.collect()
    grown = resident() - middle
    print(f"\n{CASES} cases, {grown / 2**20:.1f} MiB more at the end than in the middle, {resident() / 2**20:.0f} MiB in all")
    for (name, status), count in sorted(found.items()):
        print(f"{name:6} {status} {count}")
    assert grown < MOST_GROWTH
    assert {status for _, status in found} >= {200, 400}
