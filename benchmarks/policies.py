"""One workload under every batching policy, on a real engine: nobody wins everything.

    python benchmarks/policies.py

Two tenants, one of which asks ten times as often; three priorities; four system prompts; lengths that differ; more
requests than the engine keeps up with. Random weights of 15.7M parameters, bfloat16. Prints a table and one JSON line,
writes benchmarks/policies.{json,md}, and keeps the recordings in build/benchmarks/policies for benchmarks/simulator.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from models import random_checkpoint
from results import BUILD, markdown, publish

from serving.bench.inprocess import run
from serving.bench.metrics import Latencies, fairness
from serving.bench.workload import Job, Lengths, Traffic, prefix_repetition_jobs
from serving.domain.policies import policy_names
from serving.infrastructure.config import ServingConfig

SHAPE = "15m"
RECORDINGS = BUILD / "policies"
SLO = {"ttft": 1.0, "tpot": 0.06}


def workload(count: int, rate: float) -> list[Job]:
    """The same for every policy."""
    lengths = Lengths(prompt=160, output=48, spread=0.75)
    traffic = Traffic(rate=rate, tenants=(10, 1), priorities=3)
    return list(prefix_repetition_jobs(count, lengths, traffic, prefix_tokens=64, num_prefixes=4, seed=1))


def config(policy: str) -> ServingConfig:
    """Eight places and not quite the memory for eight long requests."""
    return ServingConfig(policy=policy, max_num_seqs=8, num_blocks=192, mixed_prefill_tokens=64, device="cpu")


def row(policy: str, figures: dict, fair: float) -> dict:
    return {
        "policy": policy,
        "TTFT p50": figures["p50_ttft_ms"],
        "TTFT p99": figures["p99_ttft_ms"],
        "TPOT p50": figures["p50_tpot_ms"],
        "ITL p99": figures["p99_itl_ms"],
        "E2EL p50": figures["p50_e2el_ms"],
        "output tokens/s": figures["output_throughput"],
        "goodput": f"{figures['good_share']:.0%}",
        "Jain": fair,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-prompts", type=int, default=80)
    parser.add_argument("--request-rate", type=float, default=8.0)
    parser.add_argument("--models", type=Path, default=BUILD / "models")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    checkpoint = random_checkpoint(SHAPE, arguments.models)
    RECORDINGS.mkdir(parents=True, exist_ok=True)
    jobs = workload(arguments.num_prompts, arguments.request_rate)
    results, rows = {}, []
    for policy in policy_names():
        found = run(checkpoint, config(policy), jobs, record=RECORDINGS / f"{policy}.jsonl")
        figures = Latencies.of(found.recording, SLO).figures()
        results[policy] = {**figures, "fairness": fairness(found.recording)}
        rows.append(row(policy, figures, results[policy]["fairness"]))
    text = markdown(rows) + (
        f"\nMilliseconds. {arguments.num_prompts} requests at {arguments.request_rate:g} per second, of two tenants (10:1); "
        "goodput: first token within 1 s and at most 60 ms per token after it; Jain: fairness between the tenants while both "
        f"have requests. Eight places, 192 blocks of 16 tokens. Model: random weights, shape `{SHAPE}`, bfloat16.\n"
    )
    publish("policies", {"shape": SHAPE, "results": results}, "Eight policies, one workload", text, arguments.json)


if __name__ == "__main__":
    main()
