"""From nothing to the first token: how long `lifecycle serve` takes to answer, and how much memory it then holds.

    python benchmarks/startup.py                     # SmolLM2-135M's shape, five starts: about a minute
    python benchmarks/startup.py --shape 15m --starts 3
    python benchmarks/startup.py --shape 15m --starts 3 --json startup.json

Each start is a process of its own, with the kernels built already. The clock runs from the start of the process to the
first token that a client has read from a stream, which it asks for as soon as the server says that it is healthy. Then
the same client asks for nine more answers, one after the other: the first token of the first should take as long as that
of the tenth. Then server and
worker are killed with SIGKILL while an answer is computed, and another server is started on the same port: the time until it
says that it is ready is the time after a crash. Memory is what the process that answers holds afterwards (resident, Linux's VmRSS), beside the limit that it
is held to: the weights as stored times 1.3, the pool of keys and values, and 300 MB; of the pool only what has been
written to counts on either side, which is next to nothing here. Prints a table and one JSON line, writes
benchmarks/startup.{json,md}.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from models import SHAPES
from peer_engines.checkpoint import full_checkpoint
from results import BUILD, markdown, medians, publish

from lifecycle.registry import ModelRegistry

KV_MEMORY_MB = 256
PROMPT, ANSWER = 64, 32  # tokens
REQUESTS = 10
PATIENCE = 120.0  # seconds
MEGABYTE = 1e6
TITLE = "From nothing to the first token"


def ask(port: int, number: int) -> float:
    """Seconds to the first token of the answer to a prompt of its own, which is read to its end.

    Raises URLError while nobody listens.
    """
    body = {"prompt": [10 + number] * PROMPT, "max_tokens": ANSWER, "temperature": 0, "ignore_eos": True, "stream": True}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    began, first = time.perf_counter(), None
    with urllib.request.urlopen(request, timeout=PATIENCE) as lines:
        for line in lines:
            if first is None and line.startswith(b"data: {"):
                first = time.perf_counter() - began
    return first


def ask_in_vain(port: int) -> None:
    """An answer that its server does not live to give."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        ask(port, 1)


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


def worker_of(pid: int) -> int:
    """The process that answers: the child of the one that was started."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def wait_until_ready(server: subprocess.Popen[bytes], port: int, began: float) -> None:
    """Raises RuntimeError when the server ends, or does not answer in time."""
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=PATIENCE):
                return
        except urllib.error.URLError:
            if server.poll() is not None or time.perf_counter() - began > PATIENCE:
                raise RuntimeError(f"the server did not start: {server.stderr.read().decode()[-500:]}") from None
            time.sleep(0.01)


def start(ref: str, port: int, environment: dict[str, str]) -> dict[str, float]:
    """Figures of one start."""
    command = [sys.executable, "-m", "lifecycle.cli", "serve", ref, "--port", str(port), "--kv-memory", str(KV_MEMORY_MB)]
    began = time.perf_counter()
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        wait_until_ready(server, port, began)
        asked = time.perf_counter()
        first = ask(port, 0)
        later = [ask(port, number) for number in range(1, REQUESTS)]
        figures = {
            "first token (s)": asked + first - began,
            "first request (ms)": 1e3 * first,
            "tenth request (ms)": 1e3 * later[-1],
            "resident (MB)": resident(worker_of(server.pid)) / MEGABYTE,
        }
        answered = threading.Thread(target=ask_in_vain, args=(port,), daemon=True)
        answered.start()
        for pid in (server.pid, worker_of(server.pid)):
            os.kill(pid, signal.SIGKILL)
        server.communicate(timeout=PATIENCE)
        began = time.perf_counter()
        server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait_until_ready(server, port, began)
        return {**figures, "ready after kill -9 (s)": time.perf_counter() - began}
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=PATIENCE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write the figures there instead.")
    arguments = parser.parse_args()
    directory = full_checkpoint(arguments.shape, BUILD / "models")
    registry = BUILD / "registry"
    ref = ModelRegistry(registry).import_directory(directory, f"startup-{arguments.shape}").ref
    environment = {**os.environ, "LIFECYCLE_REGISTRY": str(registry), "HF_HUB_OFFLINE": "1"}
    start(ref, arguments.port, environment)  # builds the kernels, if nobody has
    runs = [start(ref, arguments.port, environment) for _ in range(arguments.starts)]
    weights = sum(file.stat().st_size for file in directory.glob("*.safetensors")) / MEGABYTE
    figures = {**medians(runs), "limit (MB)": 1.3 * weights + 300}
    text = f"""{markdown([{"model": arguments.shape, **figures}])}

Prompts of {PROMPT} tokens, answers of {ANSWER}, one stream. Medians of {arguments.starts} starts with the kernels built already.
"""
    publish("startup", {"shape": arguments.shape, "starts": arguments.starts, "medians": figures, "runs": runs}, TITLE, text, arguments.json)


if __name__ == "__main__":
    main()
