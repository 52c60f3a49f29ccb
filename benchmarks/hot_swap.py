"""A server moves to another version under live streams: is anybody cut off, and how much longer do they wait?

    python benchmarks/hot_swap.py                    # a model of 15.7M parameters, 32 streams, three swaps: a minute
    python benchmarks/hot_swap.py --shape smollm2-135m --clients 8 --json swap.json

`lifecycle serve --follow production` answers clients that ask for "production" again and again, each as soon as it has the
whole stream of its answer. Then the alias of the registry moves, and a while later back again. A request fails when its
stream breaks off or has fewer tokens than it asked for. It counts as during a swap when it was in flight between the move of
the alias and the first answer of the version that it moved to; the median of those minus the median of the others is the
added latency, which should be at most a step (the median gap between pieces of a stream) and the load. In that time the server reads the new version, checks it against its hashes and against itself, and
goes on computing for everybody, on the same cores. Both versions have the same weights. Prints a table and one JSON
line, writes benchmarks/hot_swap.{json,md}.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from models import SHAPES
from peer_engines.checkpoint import full_checkpoint
from results import BUILD, markdown, publish
from startup import wait_until_ready

from lifecycle.registry import ModelRegistry

KV_MEMORY_MB = 128
PROMPT, ANSWER = 64, 32  # tokens
CALM = 8.0  # seconds before and after each swap
PATIENCE = 120.0  # seconds
ALIAS = "production"
TITLE = "A new version while the server answers"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: when it began and ended (seconds, monotonic), who answered it; `version` None: it failed.

    `gaps` are between the pieces of its stream, in seconds.
    """

    began: float
    ended: float
    version: str | None
    gaps: list[float]


class Client(threading.Thread):
    """Asks until it is told to stop, every time something else."""

    def __init__(self, port: int, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.port, self.number, self.stop = port, number, stop
        self.asked: list[Asked] = []

    def run(self) -> None:
        count = 0
        while not self.stop.is_set():
            prompt = [10 + self.number, *((7 * count + at) % 250 for at in range(PROMPT - 1))]
            began = time.monotonic()
            gaps: list[float] = []
            try:
                version = ask(self.port, prompt, gaps)
            except (OSError, ValueError, KeyError, http.client.HTTPException):
                version = None
            self.asked.append(Asked(began, time.monotonic(), version, gaps))
            count += 1


def ask(port: int, prompt: list[int], gaps: list[float]) -> str:
    """The version that gave the answer. Raises OSError for any other status, and ValueError for a stream that breaks off."""
    body = {"model": ALIAS, "prompt": prompt, "max_tokens": ANSWER, "temperature": 0, "ignore_eos": True, "stream": True}
    body["stream_options"] = {"include_usage": True}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        last, usage, ended = None, None, False
        for line in answer:
            if line.startswith(b"data: {"):
                now = time.monotonic()
                gaps += [] if last is None else [now - last]
                last = now
                usage = json.loads(line[6:])["usage"] or usage
            ended |= line.startswith(b"data: [DONE]")
        if not ended or usage["completion_tokens"] != ANSWER:
            raise ValueError("the stream broke off")
        return answer.headers["x-model-version"]


def swap(registry: ModelRegistry, ref: str, clients: list[Client]) -> tuple[float, float]:
    """Move the alias; when that was, and when the first answer of the version came that was asked for afterwards."""
    moved = time.monotonic()
    registry.set_alias(ALIAS, ref)
    while True:
        for client in clients:
            if client.asked and client.asked[-1].version == ref:
                return moved, client.asked[-1].ended
        if time.monotonic() - moved > PATIENCE:
            raise RuntimeError("the server did not follow the alias")
        time.sleep(0.02)


def figures_of(asked: list[Asked], swaps: list[tuple[float, float]]) -> dict[str, float]:
    """Of all requests; latencies in milliseconds."""
    during, calm = [], []
    for one in asked:
        affected = any(one.began < end and one.ended > begin for begin, end in swaps)
        (during if affected else calm).append(1e3 * (one.ended - one.began))
    return {
        "requests": len(asked),
        "failed_requests": sum(one.version is None for one in asked),
        "calm_latency_ms": statistics.median(calm),
        "swap_latency_ms": statistics.median(during),
        "added_latency_ms": statistics.median(during) - statistics.median(calm),
        "step_ms": 1e3 * statistics.median(gap for one in asked for gap in one.gaps),
        "longest_ms": max(during),
        "longest_gap_ms": 1e3 * max(gap for one in asked for gap in one.gaps),
        "swap_seconds": statistics.median(end - begin for begin, end in swaps),
    }


def measure(registry: ModelRegistry, refs: tuple[str, str], port: int, clients: int, swaps: int) -> dict[str, float]:
    """Start the server, let the clients ask, move the alias to and fro."""
    registry.set_alias(ALIAS, refs[0])
    environment = {**os.environ, "LIFECYCLE_REGISTRY": str(registry.root), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "lifecycle.cli", "serve", "--follow", ALIAS, "--port", str(port)]
    server = subprocess.Popen(
        [*command, "--kv-memory", str(KV_MEMORY_MB)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    stop = threading.Event()
    asking = [Client(port, number, stop) for number in range(clients)]
    try:
        wait_until_ready(server, port, time.perf_counter())
        ask(port, [5] * PROMPT, [])  # whatever is done once is done
        for client in asking:
            client.start()
        moves = []
        for number in range(swaps):
            time.sleep(CALM)
            moves.append(swap(registry, refs[(number + 1) % 2], asking))
        time.sleep(CALM)
        stop.set()
        for client in asking:
            client.join()
    finally:
        stop.set()
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=PATIENCE)
    return figures_of([one for client in asking for one in client.asked], moves)


def two_versions(shape: str, registry: ModelRegistry) -> tuple[str, str]:
    """The same weights twice."""
    directory, name = full_checkpoint(shape, BUILD / "models"), f"swap-{shape}"
    while len(registry.versions(name)) < 2:
        registry.publish(name, lambda target: shutil.copytree(directory, target, dirs_exist_ok=True), stage="import")
    return f"{name}/1", f"{name}/2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="15m")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--swaps", type=int, default=3)
    parser.add_argument("--port", type=int, default=8767)
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write the figures there instead.")
    arguments = parser.parse_args()
    registry = ModelRegistry(BUILD / "registry")
    refs = two_versions(arguments.shape, registry)
    figures = measure(registry, refs, arguments.port, arguments.clients, arguments.swaps)
    text = f"""{markdown([{"model": arguments.shape, **figures}])}
{arguments.clients} clients, each with one stream in flight: prompts of {PROMPT} tokens, answers of {ANSWER}, {arguments.swaps} swaps.
"""
    asked = {"shape": arguments.shape, "clients": arguments.clients, "swaps": arguments.swaps}
    publish("hot_swap", {**asked, **figures}, TITLE, text, arguments.json)


if __name__ == "__main__":
    main()
