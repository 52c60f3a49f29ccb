"""How many machines, and at what price, for 1,000 and for 100,000 people at once: a study with the simulator.

    python benchmarks/planning.py                              # two minutes
    python benchmarks/planning.py --price gpu-8b=2.2 --think 30 --json planning.json

Each machine is four numbers of a step (`serving/simulation/steptime.py`) and a KV pool. `cpu-15m` has been measured
(benchmarks/simulator.md); `gpu-8b` is a roofline: eight billion parameters in bf16 on a card with 3.35 TB/s, 400 TFLOP/s of
which arrive, and 52 GB for keys and values. Prices are an input. A cluster of two replicas is loaded more and more until it
breaks a promise (p99 of the time to the first token, p99 of the time per token, nobody refused); what it carried last, divided
by two, is what a replica is worth. With the same load per replica, a larger cluster is asked whether that still holds, which
is what allows to multiply up to 100,000. Prefill and decode apart are two simulations: one of prompts that end with their first token, one of answers
whose prompts cost only their way over the network. Prints a table and one JSON line, writes benchmarks/planning.{json,md}.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from results import markdown, publish

from lifecycle.errors import LifecycleError
from serving.bench.workload import Lengths, Traffic, prefix_repetition_jobs
from serving.domain.config import SchedulerConfig
from serving.simulation.cluster import Outcome, simulate
from serving.simulation.steptime import StepTimeModel

CLUSTER, LARGER = 2, 6  # replicas
SECONDS = 10.0  # of arrivals in a trial, many times what is promised
HALVINGS = 3
FEWEST = 150  # requests in a trial
USERS = (1_000, 100_000)
TITLE = "Machines for 1,000 and for 100,000 people"


@dataclass(frozen=True, slots=True)
class Machine:
    """One replica: a step's time (s), its pool, the price of an hour, what a token's keys and values take on the network (s)."""

    step: StepTimeModel
    blocks: int
    seqs: int
    budget: int
    price: float
    transfer: float
    prefix: int  # tokens that many prompts begin with
    lengths: Lengths  # of the rest, and of the answers
    ttft: float  # promised, seconds
    tpot: float


MACHINES = {
    "cpu-15m": Machine(StepTimeModel(), 2048, 32, 2048, 0.05, 4.9e-6, 128, Lengths(64, 64, 0.5), 2.0, 0.1),
    "gpu-8b": Machine(
        StepTimeModel(4.8e-3, 4.0e-5, 3.9e-8, 2.0e-5), 12_400, 256, 8192, 2.5, 5.2e-6, 1024, Lengths(512, 192, 0.5), 1.0, 0.05
    ),
}
"""A token of 15.7M parameters has 4 KB of keys and values in bf16, one of 8B 131 KB; the network carries 25 GB/s (0.8 to a CPU)."""
WAYS = {
    "mixed-chunked, prefix affinity": ("mixed-chunked", "prefix-affinity"),
    "mixed-chunked, power of two": ("mixed-chunked", "power-of-two"),
    "mixed-chunked, round robin": ("mixed-chunked", "round-robin"),
    "slo, prefix affinity": ("slo", "prefix-affinity"),
    "batched prefill, prefix affinity": ("continuous-batched-prefill", "prefix-affinity"),
}


def config_of(machine: Machine, policy: str) -> SchedulerConfig:
    return SchedulerConfig(
        policy=policy, num_blocks=machine.blocks, max_num_seqs=machine.seqs, max_num_batched_tokens=machine.budget, queue_limit=2**31,
        slo_ttft=machine.ttft, slo_tpot=machine.tpot,
    )


def trial(machine: Machine, policy: str, router: str, rate: float, replicas: int, step: Callable | None = None, output: int | None = None) -> Outcome:
    """`rate`: requests per second of one replica."""
    lengths = machine.lengths if output is None else replace(machine.lengths, output=output, spread=0.0 if output == 1 else 0.5)
    jobs = prefix_repetition_jobs(
        max(FEWEST, round(SECONDS * rate * replicas)), lengths, Traffic(rate=rate * replicas), prefix_tokens=machine.prefix, num_prefixes=6 * replicas, seed=1
    )
    return simulate(jobs, config_of(machine, policy), step or machine.step, replicas=replicas, router=router)


def holds(outcome: Outcome, machine: Machine, *, first: bool = True, rest: bool = True) -> bool:
    found = outcome.latencies
    in_time = not first or found.ttft.quantile(0.99) <= machine.ttft
    steady = not rest or found.tpot.quantile(0.99) <= machine.tpot
    return in_time and steady and not outcome.refused


def capacity(carries: Callable[[float], bool], machine: Machine) -> float:
    """The highest rate at which the promises hold, within an eighth or so of what arithmetic alone would allow; 0: at none."""
    tokens = machine.prefix + machine.lengths.prompt + machine.lengths.output
    low, high = 0.0, 1 / (tokens * machine.step.per_token)
    while carries(high):
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if carries(middle) else (low, middle)
    return low


def one_way(machine: Machine, policy: str, router: str) -> dict[str, Any]:
    rate = capacity(lambda rate: holds(trial(machine, policy, router, rate, CLUSTER), machine), machine)
    found = trial(machine, policy, router, rate, LARGER) if rate else None
    return {
        "rate": rate,
        "scales": bool(found) and holds(found, machine),
        "cached_share": found.cached_tokens / found.latencies.prompt_tokens if found else 0.0,
        "breaks": breaking(trial(machine, policy, router, 1.15 * rate or 0.5, CLUSTER), machine),
    }


def apart(machine: Machine) -> dict[str, Any]:
    """Prefill here, decode there: a replica's worth when both are bought in the right proportion."""

    def decode(tokens: int, kv_read: int, sequences: int) -> float:
        arriving = max(0, tokens - sequences)
        return machine.step(tokens - arriving, kv_read, sequences) + machine.transfer * arriving

    prefill = capacity(
        lambda rate: holds(trial(machine, "mixed-chunked", "prefix-affinity", rate, CLUSTER, output=1), machine, rest=False), machine
    )
    decoding = capacity(
        lambda rate: holds(trial(machine, "mixed-chunked", "power-of-two", rate, CLUSTER, step=decode), machine), machine
    )
    return {
        "rate": 1 / (1 / prefill + 1 / decoding), "scales": True, "cached_share": 0.0, "breaks": "",
        "prefill_rate": prefill, "decode_rate": decoding,
    }


def breaking(outcome: Outcome, machine: Machine) -> str:
    """Which promise goes first, 15% above what is carried."""
    if not holds(outcome, machine, first=False):
        return "TPOT"
    return "TTFT" if not holds(outcome, machine, rest=False) else "none yet"


def study(machines: dict[str, Machine], think: float) -> list[dict[str, Any]]:
    rows = []
    for name, machine in machines.items():
        ways = {way: one_way(machine, *how) for way, how in WAYS.items()} | {"prefill and decode apart": apart(machine)}
        for way, found in ways.items():
            row = {"machine": name, "way": way, "requests_per_s": found["rate"], "cached": found["cached_share"], "breaks": found["breaks"]}
            for users in USERS:
                replicas = math.ceil(users / think / found["rate"]) if found["rate"] else None
                row |= {f"replicas_{users}": replicas, f"price_{users}": None if replicas is None else replicas * machine.price}
            rows.append(row | {"scales": found["scales"]} | {key: found.get(key) for key in ("prefill_rate", "decode_rate")})
    return rows


def prices(words: list[str]) -> dict[str, float]:
    """Raises LifecycleError for anything but MACHINE=NUMBER."""
    found = {}
    for word in words:
        name, _, number = word.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            name = ""
        if name not in MACHINES:
            raise LifecycleError(f'cannot read --price "{word}": write MACHINE=NUMBER with one of {", ".join(MACHINES)}')
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--price", action="append", default=[], metavar="MACHINE=NUMBER", help="Of an hour of one replica.")
    parser.add_argument("--machine", action="append", choices=MACHINES, help="May be repeated. All of them by default.")
    parser.add_argument("--think", type=float, default=60.0, help="Seconds between two questions of one person.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write the figures there instead.")
    arguments = parser.parse_args()
    chosen = prices(arguments.price)
    machines = {name: replace(machine, price=chosen.get(name, machine.price)) for name, machine in MACHINES.items() if name in (arguments.machine or MACHINES)}
    began = time.perf_counter()
    rows = study(machines, arguments.think)
    shown = [{key: value for key, value in row.items() if key not in ("prefill_rate", "decode_rate")} for row in rows]
    promises = "; ".join(
        f"`{name}`: {machine.ttft:g} s to the first token and {1000 * machine.tpot:g} ms per token for 99 of 100, prompts of {machine.prefix} "
        f"shared and {machine.lengths.prompt} own tokens, answers of {machine.lengths.output}, {machine.price:g} an hour"
        for name, machine in machines.items()
    )
    text = f"""{markdown(shown)}
`requests_per_s` is what one replica carries; a person asks every {arguments.think:g} s. Promises and inputs: {promises}.
`breaks` is the promise that goes first 15% above that; `scales` says whether {LARGER} replicas keep the promises at the same load each as
{CLUSTER} did; `price` is per hour. How to read it: [docs/planning.md](../docs/planning.md).
"""
    publish("planning", {"think_seconds": arguments.think, "wall_seconds": time.perf_counter() - began, "rows": rows}, TITLE, text, arguments.json)


if __name__ == "__main__":
    main()
