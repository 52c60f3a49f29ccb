"""What `lifecycle deploy plan` says of a version beside what a live server does with it, on this machine.

    python benchmarks/plan_check.py                    # "production" of the registry; two minutes
    python benchmarks/plan_check.py smollm2/1 --streams 2 --streams 6 --prompt 200 --json plan_check.json
    python benchmarks/plan_check.py --again benchmarks/plan_check.json    # the planner has changed

The server gets one CPU and one thread, and the plan is of that: its bandwidth and arithmetic are measured on the same CPU
beforehand. Clients on the other CPUs keep a number of streams busy over HTTP, a new request as soon as one ends, nothing of it
cached. `memory` is what the process that answers holds (resident, Linux's VmRSS); the most streams are those at which each still
has the pace, between two measured numbers by a straight line of seconds a token over streams. `off` is measured over predicted,
less one. Prints a table and one JSON line, writes benchmarks/plan_check.{json,md}.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import torch
from results import markdown, publish

from lifecycle.model.directory import load_config
from lifecycle.planning.hosts import described
from lifecycle.planning.roofline import Machine
from lifecycle.planning.serving import Footprint, Roofline, StepTime, Traffic, load, most, people
from lifecycle.registry import ModelRegistry
from serving.bench.client import Server, drive
from serving.bench.workload import Job

STREAMS = (1, 4, 8, 16, 32, 64, 128)
"""Those that the planner's constants were fitted to, with prompts of 128 tokens, answers of 64 and `tiny`."""
ANSWERS = 6
"""Of each stream, one after the other."""
REACHED = 0.65
NUMBERS = count(1)
TITLE = "A plan beside a live server"


@contextmanager
def serving(registry: ModelRegistry, ref: str, cpu: int, most_streams: int) -> Iterator[tuple[Server, int]]:
    """A server on one CPU, and the process that answers."""
    knobs = ["--max-num-seqs", str(most_streams), "--kv-memory", "512", "--set", "prefix_caching=false"]
    command = [sys.executable, "-m", "lifecycle.cli", "serve", ref, "--port", "0", *knobs]
    with tempfile.TemporaryDirectory() as place:
        feedback = ["--feedback", str(Path(place, "feedback.sqlite"))]
        process = subprocess.Popen(
            [*command, *feedback], stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
            env={**os.environ, "LIFECYCLE_REGISTRY": str(registry.root), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        try:
            url = re.search(r"at (http://\S+)", process.stdout.readline())[1]
            worker = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
            yield Server(url), worker
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


def tokens_per_second(server: Server, streams: int, traffic: Traffic) -> float:
    """Of all streams together, while each gives several answers. Raises RuntimeError for a failed one."""
    jobs = [Job(next(NUMBERS), 0.0, traffic.prompt, traffic.answer) for _ in range(ANSWERS * streams)]
    exchanges = drive(server, jobs, max_concurrency=streams)
    if errors := [one.error for one in exchanges if one.error]:
        raise RuntimeError(errors[0])
    return traffic.answer * len(jobs) / (max(one.ended for one in exchanges) - min(one.sent for one in exchanges))


def resident(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


def streams_at(pace: float, seconds: dict[int, float]) -> float | None:
    """How many have the pace, by the seconds of a token for so many; None where even the most measured have it."""
    points = sorted(seconds.items())
    for (few, quick), (many, slow) in zip(points, points[1:], strict=False):
        if quick <= 1 / pace < slow:
            return few + (many - few) * (1 / pace - quick) / (slow - quick)
    return None if points[-1][1] <= 1 / pace else 0.0


def measure(registry: ModelRegistry, ref: str, traffic: Traffic, numbers: Sequence[int]) -> dict[str, Any]:
    """The machine, and of each number of streams tokens per second and memory."""
    version = registry.load(ref)
    target = (version.manifest.config or {}).get("target", "bf16")
    own, *others = sorted(os.sched_getaffinity(0))
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {own})
    host = described("here", None, None, None, Footprint.of(load_config(version.path), target).weights)
    os.sched_setaffinity(0, set(others) or {own})
    found = []
    with serving(registry, version.ref, own, max(numbers)) as (server, worker):
        tokens_per_second(server, 4, traffic)
        for streams in numbers:
            speed = tokens_per_second(server, streams, traffic)
            found.append({"streams": streams, "measured tokens/s": speed, "measured MB": resident(worker) / 1e6})
    return {
        "model": version.ref, "target": target, "GB/s": host.machine.bytes_per_s / 1e9, "GFLOP/s": host.machine.flop_per_s / 1e9,
        "memory": host.memory_bytes, "prompt": traffic.prompt, "answer": traffic.answer, "rows": found, "load": os.getloadavg()[0],
    }  # fmt: skip


def compare(registry: ModelRegistry, facts: dict[str, Any], traffic: Traffic) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What was measured beside what is planned: by the number of streams, and the most streams by pace."""
    config, target = load_config(registry.resolve(facts["model"]).path), facts["target"]
    footprint = Footprint.of(config, target)
    step = Roofline(config, target, Machine(1e9 * facts["GB/s"], 1e9 * facts["GFLOP/s"]), REACHED, traffic.answer)
    rows = []
    for one in facts["rows"]:
        planned = load(one["streams"], footprint, step, traffic)
        rows.append(
            {
                "streams": one["streams"],
                "predicted tokens/s": planned.together,
                "measured tokens/s": one["measured tokens/s"],
                "off": one["measured tokens/s"] / planned.together - 1,
                "predicted MB": planned.memory_bytes / 1e6,
                "measured MB": one["measured MB"],
            }
        )
    seconds = {one["streams"]: one["streams"] / one["measured tokens/s"] for one in facts["rows"]}
    return rows, most_streams(seconds, footprint, step, traffic, facts["memory"])


def most_streams(seconds: dict[int, float], footprint: Footprint, step: StepTime, traffic: Traffic, memory: float) -> list[dict[str, Any]]:
    """Answers at once and people, at each of a few paces."""
    rows = []
    for pace in (traffic.pace, 2 * traffic.pace, 4 * traffic.pace):
        asked = Traffic(traffic.prompt, traffic.answer, pace, traffic.pause)
        planned, found = most(footprint, step, asked, memory), streams_at(pace, seconds)
        if not planned or found is None:
            continue
        answering = traffic.answer / pace
        rows.append(
            {
                "pace (tokens/s)": pace,
                "predicted at once": planned,
                "measured at once": found,
                "off": found / planned - 1,
                "predicted people": people(load(planned, footprint, step, asked), asked),
                "measured people": found * (answering + traffic.pause) / answering,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ref", nargs="?", default="production")
    parser.add_argument("--streams", type=int, action="append", help="so many at once; may be repeated")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--answer", type=int, default=64)
    parser.add_argument("--pace", type=float, default=40.0, help="tokens a second that a reader wants; twice and four times that are shown as well")
    parser.add_argument("--pause", type=float, default=30.0, help="seconds between an answer and that person's next request")
    parser.add_argument("--again", type=Path, metavar="FILE", help="measure nothing: the figures of an earlier run beside what is planned now")
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write the figures there instead.")
    arguments = parser.parse_args()
    registry, before = ModelRegistry(), json.loads(arguments.again.read_text()) if arguments.again else None
    lengths = (before["prompt"], before["answer"]) if before else (arguments.prompt, arguments.answer)
    traffic = Traffic(*lengths, arguments.pace, arguments.pause)
    facts = before or measure(registry, arguments.ref, traffic, arguments.streams or STREAMS)
    rows, paces = compare(registry, facts, traffic)
    text = f"""{markdown(rows)}
{markdown(paces)}
`{facts["model"]}` ({facts["target"]}), prompts of {traffic.prompt} tokens, answers of {traffic.answer}, pauses of {traffic.pause:g} s. The server's CPU reads {facts["GB/s"]:.1f} GB/s where the
weights lie and multiplies {facts["GFLOP/s"]:.0f} GFLOP/s in bfloat16; the engine was assumed to reach {REACHED:.0%} of that. Load of the machine at the end: {facts["load"]:.1f}.
"""
    publish("plan_check", {**facts, "rows": rows, "paces": paces}, TITLE, text, arguments.json)


if __name__ == "__main__":
    main()
