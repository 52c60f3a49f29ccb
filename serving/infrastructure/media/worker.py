"""A process that decodes: when a decoder crashes or runs wild, it takes one picture with it and not the server.

`python -m serving.infrastructure.media.worker` answers tasks on its standard input until that ends. A task is a line of
JSON and a file, an answer a line of JSON and frames; nothing in an answer is ever executed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
from typing import Any, BinaryIO

from serving.domain.errors import InvalidRequest
from serving.infrastructure.media import clips, sounds, stills  # noqa: F401 (loaded before memory is bounded)
from serving.infrastructure.media.decoding import decode
from serving.infrastructure.media.limits import MediaLimits

LEAST_BYTES = 2**28
BYTES_PER_PIXEL = 64
"""Memory that decoding may take beside the process itself, for each pixel that one picture may have: a clip keeps up to 16
pictures to make the next one of."""


def main() -> None:
    """Until nobody asks any more."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    write_no_files()
    while line := sys.stdin.buffer.readline():
        task = json.loads(line)
        limits = MediaLimits(**task["limits"])
        bound_memory(LEAST_BYTES + limits.media_pixels * BYTES_PER_PIXEL)
        answer(answers, task, sys.stdin.buffer.read(task["size"]), limits)
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def answer(answers: BinaryIO, task: dict[str, Any], data: bytes, limits: MediaLimits) -> None:
    """Decode one file and tell what came of it."""
    found = decode(task["kind"], task["coarse"], data, limits)
    if isinstance(found, InvalidRequest):
        told, frames = {"error": type(found).__name__, "message": found.message}, ()
    else:
        shapes = [frame.shape for frame in found.frames]
        told, frames = {"digest": found.digest, "times": found.times, "shapes": shapes}, found.frames
    answers.write(json.dumps(told).encode() + b"\n")
    for frame in frames:
        answers.write(frame)
    answers.flush()


def write_no_files() -> None:
    """Neither on purpose nor when it crashes: a core dump would keep what somebody has sent."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        for what in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
            resource.setrlimit(what, (0, 0))


def bound_memory(more: int) -> None:
    """No more address space than there is now and `more` bytes, where the system can be told so."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + more, resource.getrlimit(resource.RLIMIT_AS)[1]))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        main()
