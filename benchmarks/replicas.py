"""Two replicas beside one, and one replica beside the engine without a gateway.

    python benchmarks/replicas.py                      # models of 15.7M and 135M parameters, four minutes
    python benchmarks/replicas.py --shape 15m --rounds 9 --json replicas.json

All answer the same requests, submitted together, in turns: an engine in this process, one replica in a Ray actor, and two of them,
each pinned to a CPU of its own and computing with one thread. `speedup` is tokens per second of two replicas over those of
one, which only CPUs of their own can bring near 2; `gateway_overhead` is the share of the engine's own tokens per second that
is lost on the way through Ray. Answers are streamed, each into a mailbox of its own; HTTP is left out on both sides: it is the
same code. `load` is how many want a CPU on the machine at the end: where that is more than there are, nobody has one of their own.
Medians of the rounds; prints a table and one JSON line, in which `speedup` and `gateway_overhead` are those of the worst model, writes
benchmarks/replicas.{json,md}.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import torch
from models import random_checkpoint
from results import BUILD, markdown, publish

from serving.application.ports import EnginePort
from serving.composition import ServingConfig, build_engine
from serving.domain.events import Finished
from serving.domain.request import Request, SamplingParams

PROMPT, ANSWER = 64, 64  # tokens
REQUESTS = {"15m": 256, "smollm2-135m": 64}
"""By shape: some seconds' work each."""
TICK = 30.0
TITLE = "Replicas behind a gateway"
NUMBERS = itertools.count()


def tokens_per_second(engine: EnginePort, requests: int) -> float:
    """Of answers to `requests` submitted at once, none of which begins like another."""
    began, streams = time.perf_counter(), []
    for _ in range(requests):
        number = next(NUMBERS)
        prompt = tuple((number * 31 + at * 7) % 250 + 3 for at in range(PROMPT))
        sampling = SamplingParams(temperature=0.0, max_tokens=ANSWER)
        streams.append(engine.submit(Request(f"bench-{number}", prompt, sampling)))
    for stream in streams:
        while not any(isinstance(event, Finished) for event in stream.next(TICK)):
            pass
    return requests * ANSWER / (time.perf_counter() - began)


def measure(directory: Path, rounds: int, requests: int, seqs: int) -> dict[str, float]:
    config = ServingConfig(device="cpu", max_num_seqs=seqs, num_blocks=64 * seqs, prefix_caching=False)
    torch.set_num_threads(1)
    with ExitStack() as stack:
        engines = {}
        for name, replicas in (("alone", 0), ("one", 1), ("two", 2)):
            own = replace(config, replicas=replicas, pin_replicas=bool(replicas))
            engines[name] = stack.enter_context(closing(build_engine(directory, own).engine))
        for engine in engines.values():
            tokens_per_second(engine, 4)
        found: dict[str, list[float]] = {name: [] for name in engines}
        for _ in range(rounds):
            for name, engine in engines.items():
                found[name].append(tokens_per_second(engine, requests))
    figures = {f"{name}_tokens_per_s": statistics.median(speeds) for name, speeds in found.items()}
    return {
        **figures,
        "speedup": statistics.median(two / one for one, two in zip(found["one"], found["two"], strict=True)),
        "gateway_overhead": statistics.median(1 - one / alone for alone, one in zip(found["alone"], found["one"], strict=True)),
        "cpus": float(len(os.sched_getaffinity(0))),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=REQUESTS, action="append", help="this one; may be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-num-seqs", type=int, default=16)
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write the figures there instead.")
    arguments = parser.parse_args()
    rows = []
    for shape in arguments.shape or REQUESTS:
        figures = measure(random_checkpoint(shape, BUILD / "models"), arguments.rounds, REQUESTS[shape], arguments.max_num_seqs)
        rows.append({"model": shape, "requests": REQUESTS[shape], **figures})
    text = f"""{markdown(rows)}
All requests at once, prompts and answers of {PROMPT} and {ANSWER} tokens, {arguments.max_num_seqs} at a time in each engine, one thread each,
{arguments.rounds} rounds in turns. `load` is the machine's own count of who wants a CPU: where it is above `cpus`, two replicas have none of their own.
"""
    worst = {"speedup": min(row["speedup"] for row in rows), "gateway_overhead": max(row["gateway_overhead"] for row in rows)}
    publish("replicas", {"rounds": arguments.rounds, "rows": rows, **worst}, TITLE, text, arguments.json)


if __name__ == "__main__":
    main()
