"""kill -9 under load: clients get an error and not silence, the registry stays whole, and the next start serves."""

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


def read_to_the_end(running: Running, told: list[str]) -> None:
    """What a client of a stream sees: the end mark, an error event, or a connection that breaks off."""
    connection, response = running.post({**LONG, "stream": True}, timeout=60)
    with closing(connection):
        try:
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            told.append(type(error).__name__)
        else:
            told.append("error event" if b'"error"' in body else "done" if b"[DONE]" in body else "cut")


@pytest.mark.parametrize("who", ["worker", "main process", "both"])
def test_killed_under_load(registry, who):
    running = Running(registry, "--max-num-seqs", "8")
    main, worker = running.process.pid, worker_of(running.process.pid)
    told: list[str] = []
    clients = [threading.Thread(target=read_to_the_end, args=(running, told)) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    running.wait_for(running=CLIENTS)
    for pid in {"worker": [worker], "main process": [main], "both": [main, worker]}[who]:
        os.kill(pid, signal.SIGKILL)
    for client in clients:
        client.join(60)
    assert len(told) == CLIENTS and "done" not in told, told
    assert registry.verify("tiny/1") == [] and registry.aliases() == {"production": "tiny/1"}
    if who != "worker":
        running.process.communicate()
        again = Running(registry, "--port", str(running.port))
    else:
        again = running  # another worker is started
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                running.stats()
                break
            except OSError:
                time.sleep(0.1)
    assert again.stats()["version"] == "tiny/1"
    again.stop()
    again.process.communicate()
