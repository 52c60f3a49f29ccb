"""Everybody's prompt begins with the same system prompt of 512 tokens: what is it worth to compute it once?

    python benchmarks/prefix_caching.py

The same requests, arriving as a Poisson process, with prefix caching and without. Random weights of SmolLM2-135M's shape,
bfloat16. Prints a table and one JSON line, writes benchmarks/prefix_caching.{json,md}.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from models import random_checkpoint
from results import BUILD, markdown, publish

from serving.bench.inprocess import run
from serving.bench.metrics import Latencies
from serving.bench.workload import Lengths, Traffic, prefix_repetition_jobs
from serving.infrastructure.config import ServingConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="smollm2-135m")
    parser.add_argument("--prefix-len", type=int, default=512)
    parser.add_argument("--num-prompts", type=int, default=20)
    parser.add_argument("--request-rate", type=float, default=0.7)
    parser.add_argument("--models", type=Path, default=BUILD / "models")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    checkpoint = random_checkpoint(arguments.shape, arguments.models)
    results, rows = {}, []
    for caching in (False, True):
        jobs = prefix_repetition_jobs(
            arguments.num_prompts,
            Lengths(prompt=32, output=16),
            Traffic(rate=arguments.request_rate),
            prefix_tokens=arguments.prefix_len,
        )
        config = ServingConfig(policy="mixed-chunked", num_blocks=2048, prefix_caching=caching, device="cpu")
        found = run(checkpoint, config, list(jobs))
        figures = Latencies.of(found.recording).figures()
        name = "on" if caching else "off"
        cached = sum(request.cached_tokens for request in found.recording.requests)
        results[name] = {**figures, "cached_tokens": cached}
        rows.append(
            {
                "prefix caching": name,
                "TTFT p50 (ms)": figures["p50_ttft_ms"],
                "TTFT p99 (ms)": figures["p99_ttft_ms"],
                "TPOT p50 (ms)": figures["p50_tpot_ms"],
                "prompt tokens": figures["total_input_tokens"],
                "found in the cache": cached,
            }
        )
    ratio = results["off"]["p50_ttft_ms"] / results["on"]["p50_ttft_ms"]
    text = markdown(rows) + (
        f"\n{arguments.num_prompts} requests at {arguments.request_rate} per second: {arguments.prefix_len} tokens that all "
        f"share, then 32 of their own; 16 out. The median time to the first token is **{ratio:.1f} times shorter** with the "
        f"cache. The slowest request is the first one, which fills it. Model: random weights, shape `{arguments.shape}`, "
        "bfloat16.\n"
    )
    figures = {"shape": arguments.shape, "results": results, "p50_ttft_ratio": ratio}
    publish("prefix_caching", figures, "A shared system prompt", text, arguments.json)


if __name__ == "__main__":
    main()
