"""How well does the simulator foretell a live engine, and how fast is it?

    python benchmarks/policies.py && python benchmarks/simulator.py

Twice: with step times fitted to the same live run that is foretold, which shows what the simulator itself gets wrong; and
with those of ONE policy's run for all policies, which is how one uses it, and includes that the machine was not equally fast
in all runs. Then a fleet: a million requests over a thousand replicas with --fleet 1000000.
Prints a table and one JSON line, writes benchmarks/simulator.{json,md}.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from policies import RECORDINGS, config
from results import markdown, publish

from lifecycle.errors import LifecycleError
from serving.bench.metrics import Latencies
from serving.bench.options import read_recording
from serving.bench.workload import Lengths, Traffic, prefix_repetition_jobs, recorded_jobs
from serving.domain.policies import policy_names
from serving.simulation.cluster import simulate
from serving.simulation.steptime import StepTimeModel, fit

FITTED_ON = "mixed-chunked"
COMPARED = {
    "duration": "duration",
    "mean_ttft_ms": "mean TTFT",
    "mean_tpot_ms": "mean TPOT",
    "mean_e2el_ms": "mean E2EL",
}


def compare(step_time: StepTimeModel | None) -> tuple[dict, list[dict]]:
    """Measured and predicted, policy by policy; None: with step times fitted to each run itself."""
    results, rows = {}, []
    for policy in policy_names():
        recording = read_recording(RECORDINGS / f"{policy}.jsonl")
        sizes = replace(config(policy), num_blocks=recording.header["scheduler"]["num_blocks"], queue_limit=10**6)
        model = step_time or fit(recording).model
        predicted = simulate(recorded_jobs(recording), sizes, model).latencies.figures()
        measured = Latencies.of(recording).figures()
        errors = {key: predicted[key] / measured[key] - 1 for key in COMPARED}
        results[policy] = {
            key: {"measured": measured[key], "predicted": predicted[key], "error": errors[key]} for key in COMPARED
        }
        shown = {
            f"{name}{'' if key == 'duration' else ' (ms)'}": f"{measured[key]:.4g} / {predicted[key]:.4g} ({errors[key]:+.0%})"
            for key, name in COMPARED.items()
        }
        rows.append({"policy": policy, **shown})
    return results, rows


def fleet(step_time, requests: int, replicas: int) -> dict:
    """The prefix-affinity router over many engines, three requests per second for each."""
    sizes = replace(config("mixed-chunked"), num_blocks=1024, max_num_seqs=16, queue_limit=10**6)
    jobs = prefix_repetition_jobs(
        requests,
        Lengths(128, 64, 0.5),
        Traffic(rate=3.0 * replicas),
        prefix_tokens=256,
        num_prefixes=4 * replicas,
    )
    return simulate(jobs, sizes, step_time, replicas=replicas, router="prefix-affinity").figures()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fleet", type=int, default=50_000, help="requests over the fleet")
    parser.add_argument("--replicas", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    try:
        fitted = fit(read_recording(RECORDINGS / f"{FITTED_ON}.jsonl"))
    except LifecycleError as error:
        raise SystemExit(f"{error}; run benchmarks/policies.py first") from None
    own, own_rows = compare(None)
    results, rows = compare(fitted.model)
    worst_own = max(abs(figure["error"]) for one in own.values() for figure in one.values())
    worst = max(abs(one["duration"]["error"]) for one in results.values())
    big = fleet(fitted.model, arguments.fleet, arguments.replicas)
    text = (
        "Each cell: measured / predicted.\n\n## Fitted to the run itself\n\n"
        + markdown(own_rows)
        + f"\nEvery figure is within {worst_own:.0%}. A fit makes the total of its own run come out right, so the latencies are "
        "what is tested here.\n\n## One fit for all policies\n\n" + markdown(rows)
    ) + (
        f"\nOne model of step times, fitted to the live run of `{FITTED_ON}` alone "
        f"({fitted.model}; typical error of a step {fitted.median_error:.0%}), foretells the total time of every policy within "
        f"{worst:.0%}; queueing multiplies what a run was slower or faster than the fitted one.\n\n## Speed\n\n"
        f"{big['completed']} requests over {arguments.replicas} replicas behind a prefix-affinity router "
        f"took {big['wall_seconds']:.0f} s on one core, {big['requests_per_wall_second']:.0f} requests/s "
        f"({big['total_output_tokens'] / big['wall_seconds']:.0f} output tokens/s), through the same scheduler code that serves.\n"
    )
    figures = {"fitted_on": FITTED_ON, "step_time": str(fitted.model), "own": own, "one_fit": results, "fleet": big}
    publish("simulator", figures, "The simulator against a live engine", text, arguments.json)


if __name__ == "__main__":
    main()
