"""A plan of serving in words: a table of loads, who can be served, and everything that was assumed."""

from __future__ import annotations

import math
from typing import Any

from lifecycle.planning.serving import USABLE, Footprint, Host, Roofline, StepTime, Traffic, load, most, people

SHOWN = (1, 8, 32)
"""Streams of the table, beside the most."""


def report(title: str, config: Any, target: str, host: Host, step: StepTime, traffic: Traffic) -> str:
    """Markdown."""
    footprint = Footprint.of(config, target)
    fitting = footprint.streams(host.memory_bytes, traffic.prompt + traffic.answer)
    limit = most(footprint, step, traffic, host.memory_bytes)
    lines = [f"{title}: {_size(footprint.weights)} of weights, {footprint.per_position / 1e3:,.1f} kB of keys and values a position", ""]
    lines += ["| answers at once | tokens/s each | tokens/s together | memory |", "|---|---|---|---|"]
    for streams in sorted({streams for streams in (*SHOWN, limit) if 0 < streams <= fitting}):
        one = load(streams, footprint, step, traffic)
        lines.append(f"| {streams:,} | {one.each:,.1f} | {one.together:,.0f} | {_size(one.memory_bytes)} |")
    lines += ["", _verdict(fitting, limit, footprint, step, traffic, host), "", "Assumed:", ""]
    return "\n".join([*lines, *(f"- {line}" for line in assumptions(host, step, traffic))]) + "\n"


def _verdict(fitting: int, limit: int, footprint: Footprint, step: StepTime, traffic: Traffic, host: Host) -> str:
    if not fitting:
        return f"it does not fit: {_size(footprint.weights)} of weights and one request into {_size(host.memory_bytes)}"
    if not limit:
        return f"it fits, and is too slow: not even one answer gets {traffic.pace:g} tokens/s"
    at_once = load(limit, footprint, step, traffic)
    why = "memory" if limit == fitting else f"the pace of {traffic.pace:g} tokens/s"
    prompts = math.ceil(limit * traffic.prompt / traffic.answer)
    return (
        f"up to {limit:,} answers at once, limited by {why}: about {people(at_once, traffic):,.0f} people with pauses of {traffic.pause:g} s, served with "
        f"--max-num-seqs {limit} --set mixed_prefill_tokens={prompts}"
    )


def assumptions(host: Host, step: StepTime, traffic: Traffic) -> list[str]:
    """What the figures rest on."""
    if isinstance(step, Roofline):
        machine = host.machine
        how = f"{machine.bytes_per_s / 1e9:,.0f} GB/s and {machine.flop_per_s / 1e12:,.1f} TFLOP/s, {host.source}; the engine reaches {step.reached:.0%} of that"
        how += (
            f"; besides, a step takes {1e3 * step.per_step:g} ms, a piece sent {1e6 * step.per_sequence:g} us and a request {1e3 * step.per_request:g} ms, "
            "and greedy answers get several tokens a piece while none of them ends"
        )
    else:
        how = f"a step takes {step}, as told; it holds for the model, the type and the machine that it was fitted to"
    return [
        how,
        f"{_size(host.memory_bytes)} of memory, {USABLE:.0%} of it usable; keys and values in bfloat16, none of them shared",
        f"prompts of {traffic.prompt} tokens, answers of {traffic.answer}; for every answer that ends one prompt is read",
        "products are counted in bfloat16, also where weights are smaller: that is rather too slow",
    ]


def _size(count: float) -> str:
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"
