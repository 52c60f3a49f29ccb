"""The processes that decode, from the side of those that ask them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np

from serving.domain.errors import InvalidRequest, MediaTooLarge, UnsupportedMedia
from serving.domain.media import Media
from serving.infrastructure.media.limits import MediaLimits

log = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds beyond `media_decode_seconds` after which a process that has not noticed is killed."""
KEPT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")
"""Of the environment: whoever takes a decoder over finds no key in it."""
ATTEMPTS = 2
"""A process may have died before this picture came, so a second one is asked."""
ERRORS = {error.__name__: error for error in (InvalidRequest, MediaTooLarge, UnsupportedMedia)}


class Crashed(Exception):
    """A process ended without an answer."""


class Workers:
    """Starts processes as they are needed, and keeps them for the next picture. Safe from any thread."""

    def __init__(self) -> None:
        self._idle: list[Worker] = []

    def decode(self, kind: str, coarse: bool, data: bytes, limits: MediaLimits) -> Media:
        """Raises `InvalidRequest` and its kinds."""
        for _ in range(ATTEMPTS):
            worker = self._ready()
            try:
                media = worker.decode(kind, coarse, data, limits)
            except InvalidRequest:
                self._idle.append(worker)
                raise
            except Crashed:
                worker.end()
                if worker.late:
                    raise InvalidRequest(
                        f"takes more than {limits.media_decode_seconds:g} seconds to decode: send a shorter or smaller one"
                    ) from None
                log.warning("a decoder of pictures ended with status %s", worker.status)
            except BaseException:
                worker.end()
                raise
            else:
                self._idle.append(worker)
                return media
        raise InvalidRequest("cannot be decoded: the decoder crashed over it")

    def _ready(self) -> Worker:
        """One that waits for work; those that died meanwhile, all of them perhaps, are no attempt."""
        while self._idle:
            try:
                worker = self._idle.pop()
            except IndexError:  # another thread took it
                break
            if worker.status is None:
                return worker
            worker.end()
            log.warning("an idle decoder of pictures ended with status %s", worker.status)
        return Worker()


class Worker:
    """One process; `late` when it was killed because it took too long."""

    def __init__(self) -> None:
        self.late = False
        environment = {name: value for name, value in os.environ.items() if name in KEPT}
        environment |= {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "serving.infrastructure.media.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the server, which ends it by closing its input
        )

    @property
    def status(self) -> int | None:
        """How it ended."""
        return self._process.poll()

    def decode(self, kind: str, coarse: bool, data: bytes, limits: MediaLimits) -> Media:
        """Raises `InvalidRequest` and its kinds, and `Crashed`."""
        clock = threading.Timer(limits.media_decode_seconds + GRACE, self._kill)
        clock.daemon = True
        clock.start()
        try:
            self._process.stdin.write(task_line(kind, coarse, len(data), limits))
            self._process.stdin.write(data)
            self._process.stdin.flush()
            told = self._process.stdout.readline()
            if not told:
                raise Crashed
            told = json.loads(told)
            if "error" in told:
                raise ERRORS[told["error"]](told["message"])
            frames = tuple(self._frame(shape) for shape in told["shapes"])
            return Media(kind, told["digest"], frames, tuple(told["times"]))
        except OSError:
            raise Crashed from None
        finally:
            clock.cancel()

    def end(self) -> None:
        """Kill it, if it has not ended by itself."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # what it was to be told is lost with it
                pipe.close()

    def _frame(self, shape: list[int]) -> Any:
        frame = np.empty(shape, np.uint8)
        if self._process.stdout.readinto(memoryview(frame).cast("B")) < frame.size:
            raise Crashed
        return frame

    def _kill(self) -> None:
        self.late = True
        self._process.kill()


def task_line(kind: str, coarse: bool, size: int, limits: MediaLimits) -> bytes:
    """The first line of a task."""
    told = {field.name: getattr(limits, field.name) for field in dataclasses.fields(MediaLimits)}
    return json.dumps({"kind": kind, "coarse": coarse, "size": size, "limits": told}).encode() + b"\n"


WORKERS = Workers()
"""Of this process, whoever asks: each is as good as the other."""
