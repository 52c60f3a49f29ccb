"""Everybody's prompt begins with the same system prompt of 512 tokens: what is it worth to compute it once?

    python benchmarks/prefix_caching.py

The same requests, arriving as a Poisson process, without prefix caching and with it in turn; the figures are medians over
the runs. Random weights of 15.7M parameters, bfloat16. Prints a table and one JSON line, writes benchmarks/prefix_caching.{json,md}.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from models import random_checkpoint
from results import BUILD, markdown, medians, publish

from serving.application.recording import Recording
from serving.bench.inprocess import run
from serving.bench.metrics import Latencies
from serving.bench.workload import Job, Lengths, Traffic, prefix_repetition_jobs
from serving.infrastructure.config import ServingConfig


def jobs(arguments: argparse.Namespace) -> list[Job]:
    """The same in every run."""
    lengths, traffic = Lengths(prompt=32, output=16), Traffic(rate=arguments.request_rate)
    return list(prefix_repetition_jobs(arguments.num_prompts, lengths, traffic, prefix_tokens=arguments.prefix_len))


def figures(recording: Recording) -> dict[str, float]:
    """Of one run."""
    found = Latencies.of(recording).figures()
    return {
        "TTFT p50 (ms)": found["p50_ttft_ms"],
        "TTFT p99 (ms)": found["p99_ttft_ms"],
        "TPOT p50 (ms)": found["p50_tpot_ms"],
        "prompt tokens": found["total_input_tokens"],
        "found in the cache": sum(request.cached_tokens for request in recording.requests),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="15m")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--prefix-len", type=int, default=512)
    parser.add_argument("--num-prompts", type=int, default=20)
    parser.add_argument("--request-rate", type=float, default=2.0)
    parser.add_argument("--models", type=Path, default=BUILD / "models")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    checkpoint = random_checkpoint(arguments.shape, arguments.models)
    runs: dict[str, list[dict[str, float]]] = {"off": [], "on": []}
    for _ in range(arguments.repeats):
        for name, found in runs.items():
            config = ServingConfig(policy="mixed-chunked", num_blocks=2048, prefix_caching=name == "on", device="cpu")
            found.append(figures(run(checkpoint, config, jobs(arguments)).recording))
    results = {name: medians(found) for name, found in runs.items()}
    ratio = results["off"]["TTFT p50 (ms)"] / results["on"]["TTFT p50 (ms)"]
    text = markdown([{"prefix caching": name, **found} for name, found in results.items()]) + (
        f"\n{arguments.num_prompts} requests at {arguments.request_rate} per second: {arguments.prefix_len} tokens that all "
        f"share, then 32 of their own; 16 out. The median time to the first token is **{ratio:.1f} times shorter** with the "
        f"cache. The slowest request is the first one, which fills it. Medians of {arguments.repeats} runs in turn. "
        f"Model: random weights, shape `{arguments.shape}`, bfloat16.\n"
    )
    found = {"shape": arguments.shape, "results": results, "runs": runs, "p50_ttft_ratio": ratio}
    publish("prefix_caching", found, "A shared system prompt", text, arguments.json)


if __name__ == "__main__":
    main()
