"""Long prompts arrive while others read their answers: how long do the readers wait for the next token?

    python benchmarks/interference.py

Six streams decode; every second and a half somebody sends a prompt of 1,024 tokens. A policy that prefills whole prompts
stops everybody for as long as that takes; one that chunks them lets every step decode. The policies take turns, and the
figures are medians over the runs. Random weights of 15.7M parameters, bfloat16. Prints a table and one JSON line, writes benchmarks/interference.{json,md}.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from models import random_checkpoint
from results import BUILD, markdown, medians, publish

from serving.bench.inprocess import run
from serving.bench.metrics import Histogram
from serving.bench.workload import Job
from serving.infrastructure.config import ServingConfig

POLICIES = ("continuous-batched-prefill", "mixed-chunked")
READERS, PROMPTS = 6, 4
SECONDS_BETWEEN = 1.5
"""Long enough for one prompt to be done before the next comes."""


def jobs(long_prompt: int) -> list[Job]:
    """Readers with short prompts and long answers, then long prompts with short answers."""
    readers = [Job(number, 0.0, 32, 320) for number in range(READERS)]
    return readers + [Job(READERS + n, 1.0 + SECONDS_BETWEEN * n, long_prompt, 2) for n in range(PROMPTS)]


def readers_itl(recording) -> Histogram:
    """Gaps between the tokens of the readers, from the first long prompt's arrival to the last one's first token."""
    long = recording.requests[READERS:]
    begin, end = min(r.arrival for r in long), max(r.first_token for r in long)
    last: dict[int, float] = {}
    gaps = Histogram()
    for step in recording.steps:
        for item in step.work:
            if item.samples and item.request < READERS:
                if item.request in last and step.end > begin and last[item.request] < end:
                    gaps.add(step.end - last[item.request])
                last[item.request] = step.end
    return gaps


def figures(recording) -> dict[str, float]:
    """Of one run, in milliseconds."""
    gaps = readers_itl(recording)
    waits = [request.first_token - request.arrival for request in recording.requests[READERS:]]
    quantiles = {f"ITL p{q} (ms)": 1000 * gaps.quantile(q / 100) for q in (50, 90, 99)}
    return {**quantiles, "mean TTFT of the long prompts (ms)": 1000 * sum(waits) / len(waits)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="15m")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--long-prompt", type=int, default=1024)
    parser.add_argument("--chunk", type=int, default=128, help="prompt tokens in a step that also decodes")
    parser.add_argument("--models", type=Path, default=BUILD / "models")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    checkpoint = random_checkpoint(arguments.shape, arguments.models)
    runs: dict[str, list[dict[str, float]]] = {policy: [] for policy in POLICIES}
    for _ in range(arguments.repeats):
        for policy in POLICIES:
            config = ServingConfig(policy=policy, num_blocks=1024, mixed_prefill_tokens=arguments.chunk, device="cpu")
            runs[policy].append(figures(run(checkpoint, config, jobs(arguments.long_prompt)).recording))
    results = {policy: medians(found) for policy, found in runs.items()}
    ratio = results[POLICIES[0]]["ITL p99 (ms)"] / results[POLICIES[1]]["ITL p99 (ms)"]
    text = markdown([{"policy": policy, **found} for policy, found in results.items()]) + (
        f"\n{READERS} streams decode while {PROMPTS} prompts of {arguments.long_prompt} tokens arrive, one every "
        f"{SECONDS_BETWEEN:g} s; chunks of {arguments.chunk} tokens. p99 of the streams' inter-token latency is "
        f"**{ratio:.1f} times lower** with chunked prompts; the long prompts themselves wait longer. Medians of "
        f"{arguments.repeats} runs in turn. Model: random weights, shape `{arguments.shape}`, bfloat16.\n"
    )
    found = {"shape": arguments.shape, "chunk": arguments.chunk, "results": results, "runs": runs, "p99_ratio": ratio}
    publish("interference", found, "Long prompts beside running answers", text, arguments.json)


if __name__ == "__main__":
    main()
