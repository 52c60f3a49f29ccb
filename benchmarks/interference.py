"""Long prompts arrive while others read their answers: how long do the readers wait for the next token?

    python benchmarks/interference.py

Six streams decode; every three seconds somebody sends a prompt of 512 tokens. A policy that prefills whole prompts
stops everybody for as long as that takes; one that chunks them lets every step decode. Random weights of SmolLM2-135M's
shape, bfloat16. Prints a table and one JSON line, writes benchmarks/interference.{json,md}.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from models import random_checkpoint
from results import BUILD, markdown, publish

from serving.bench.inprocess import run
from serving.bench.metrics import Histogram
from serving.bench.workload import Job
from serving.infrastructure.config import ServingConfig

POLICIES = ("continuous-batched-prefill", "mixed-chunked")
READERS, PROMPTS = 6, 4
SECONDS_BETWEEN = 3.0
"""Long enough for one prompt to be done before the next comes."""


def jobs(long_prompt: int) -> list[Job]:
    """Readers with short prompts and long answers, then long prompts with short answers."""
    readers = [Job(number, 0.0, 32, 200) for number in range(READERS)]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="smollm2-135m")
    parser.add_argument("--long-prompt", type=int, default=512)
    parser.add_argument("--chunk", type=int, default=32, help="prompt tokens in a step that also decodes")
    parser.add_argument("--models", type=Path, default=BUILD / "models")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    checkpoint = random_checkpoint(arguments.shape, arguments.models)
    results, rows = {}, []
    for policy in POLICIES:
        config = ServingConfig(policy=policy, num_blocks=1024, mixed_prefill_tokens=arguments.chunk, device="cpu")
        found = run(checkpoint, config, jobs(arguments.long_prompt))
        gaps = readers_itl(found.recording)
        ttft = [r.first_token - r.arrival for r in found.recording.requests[READERS:]]
        milliseconds = {f"p{q}": 1000 * gaps.quantile(q / 100) for q in (50, 90, 99)}
        results[policy] = {"itl_ms": milliseconds, "mean_ttft_ms": 1000 * sum(ttft) / PROMPTS, "seconds": found.seconds}
        named = {f"ITL {name} (ms)": value for name, value in milliseconds.items()}
        rows.append({"policy": policy, **named, "mean TTFT of the long prompts (ms)": results[policy]["mean_ttft_ms"]})
    ratio = results[POLICIES[0]]["itl_ms"]["p99"] / results[POLICIES[1]]["itl_ms"]["p99"]
    text = markdown(rows) + (
        f"\n{READERS} streams decode while {PROMPTS} prompts of {arguments.long_prompt} tokens arrive, one every "
        f"{SECONDS_BETWEEN:g} s; chunks "
        f"of {arguments.chunk} tokens. p99 of the streams' inter-token latency is **{ratio:.1f} times lower** with chunked "
        f"prompts; the long prompts themselves wait longer. Model: random weights, shape `{arguments.shape}`, bfloat16.\n"
    )
    figures = {"shape": arguments.shape, "chunk": arguments.chunk, "results": results, "p99_ratio": ratio}
    publish("interference", figures, "Long prompts beside running answers", text, arguments.json)


if __name__ == "__main__":
    main()
