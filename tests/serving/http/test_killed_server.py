"""kill -9 under load: clients get their answer or an error and not silence, the registry stays whole, the next start serves."""

from __future__ import annotations

import http.client
import os
import signal
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from test_gunicorn import LONG, Running

pytestmark = pytest.mark.slow
CLIENTS = 6


def worker_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def read_to_the_end(running: Running, length: int, told: list[str]) -> None:
    """What a client of a stream sees: the end mark, an error event, or a connection that breaks off."""
    connection, response = running.post({**LONG, "max_tokens": length, "min_tokens": length, "stream": True}, timeout=60)
    with closing(connection):
        try:
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            told.append(type(error).__name__)
        else:
            told.append("error event" if b'"error"' in body else "done" if b"[DONE]" in body else "cut")


@pytest.mark.parametrize("who", ["worker", "main process"])
def test_killed_under_load(registry, who):
    running = Running(registry, "--max-num-seqs", "8")
    main, worker = running.process.pid, worker_of(running.process.pid)
    told: list[str] = []
    length = 400 if who == "main process" else 12_000
    clients = [threading.Thread(target=read_to_the_end, args=(running, length, told)) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    running.wait_for(running=CLIENTS)
    os.kill(worker if who == "worker" else main, signal.SIGKILL)
    if who != "worker":
        running.process.wait()
        again = Running(registry, "--port", str(running.port))  # the port is free at once, though a worker may still answer
    else:
        again = running  # another worker is started
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                running.stats()
                break
            except OSError:
                time.sleep(0.1)
    for client in clients:
        client.join(60)
    assert len(told) == CLIENTS and ("done" in told) == (who == "main process"), told
    assert registry.verify("tiny/1") == [] and registry.aliases() == {"production": "tiny/1"}
    assert again.stats()["version"] == "tiny/1"
    again.stop()
    again.process.communicate()
