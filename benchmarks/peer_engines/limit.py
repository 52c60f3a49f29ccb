"""What the machine allows: no engine that reads every weight once per step in bfloat16 can be faster than this."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from peer_engines.contender import OUTPUT, PROMPT, Phase


@dataclass(frozen=True, slots=True)
class Machine:
    """Measured on all threads that torch uses."""

    read_gb_per_s: float
    bf16_tflop_per_s: float


@dataclass(frozen=True, slots=True)
class Work:
    """What a Llama of one shape has to do."""

    layer_weights: int
    """Parameters that multiply every token."""
    head_weights: int
    """Parameters that multiply every token which is followed by a generated one."""
    kv_bytes: int
    """Keys and values of one token, in two bytes a value."""

    @classmethod
    def of(cls, shape: dict[str, Any]) -> Work:
        hidden, layers = shape["hidden_size"], shape["num_hidden_layers"]
        kv = hidden // shape["num_attention_heads"] * shape["num_key_value_heads"]
        layer = 2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * shape["intermediate_size"]
        return cls(layers * layer, shape["vocab_size"] * hidden, layers * 2 * kv * 2)


def limit(work: Work, machine: Machine, phase: Phase, batch: int) -> float | None:
    """Tokens per second; None for a server, whose limit is not the model's alone.

    A decode step reads the weights or multiplies them, whichever takes longer, and then reads keys and values. A prompt
    multiplies the weights of the layers; its attention and everything else are counted as nothing.
    """
    bandwidth, peak = machine.read_gb_per_s * 1e9, machine.bf16_tflop_per_s * 1e12
    if phase == "prefill":
        return peak / (2 * work.layer_weights)
    if phase == "http":
        return None
    weights = work.layer_weights + work.head_weights
    length = PROMPT + OUTPUT / 2
    seconds = max(2 * weights / bandwidth, 2 * weights * batch / peak) + batch * length * work.kv_bytes / bandwidth
    return batch / seconds


def measure_machine() -> Machine:
    """Takes two seconds and a gigabyte; the best of several tries, as it is a limit."""
    import torch

    size = 2048
    buffer = torch.ones(2**28)
    one, other = torch.ones(size, size, dtype=torch.bfloat16), torch.ones(size, size, dtype=torch.bfloat16)
    return Machine(
        read_gb_per_s=buffer.nbytes / _best(buffer.sum) / 1e9,
        bf16_tflop_per_s=2 * size**3 / _best(lambda: one @ other) / 1e12,
    )


def _best(work: Callable[[], object], tries: int = 8) -> float:
    seconds = []
    for _ in range(tries):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
