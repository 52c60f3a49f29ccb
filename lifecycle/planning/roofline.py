"""What a machine allows: no engine that reads every weight once a step can be faster (Williams et al., 2009).

A step either waits for memory or for arithmetic. A decode step of one sequence multiplies each weight it has fetched once,
so memory decides; a batch shares what was fetched, until arithmetic does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from lifecycle.hardware import choose_dtype


@dataclass(frozen=True, slots=True)
class Machine:
    """Measured with as many threads as torch uses."""

    bytes_per_s: float
    """Read from memory, in one stream."""
    flop_per_s: float
    """In large matrix products, of bfloat16 where the hardware multiplies it, else of fp32."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a Llama-like decoder has to do for a token."""

    layer_weights: int
    """Parameters that multiply every token."""
    head_weights: int
    """Parameters that multiply every token which another one is sampled after."""
    kv_bytes: int
    """Keys and values of one position, in bfloat16."""
    bytes_per_weight: float = 2.0

    @classmethod
    def of(cls, config: Any, bytes_per_weight: float = 2.0) -> Work:
        """From a transformers config."""
        hidden, heads = config.hidden_size, config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or hidden // heads
        queries, keys = heads * head_dim, config.num_key_value_heads * head_dim
        layer = 2 * hidden * queries + 2 * hidden * keys + 3 * hidden * config.intermediate_size
        layers = config.num_hidden_layers
        return cls(layers * layer, config.vocab_size * hidden, layers * 2 * keys * 2, bytes_per_weight)

    def decode_limit(self, machine: Machine, batch: int, context: float) -> float:
        """Tokens per second of `batch` sequences with `context` positions each.

        Fetching weights and multiplying them overlap, so the longer of the two counts; keys and values are fetched besides.
        """
        weights = self.layer_weights + self.head_weights
        fetch = self.bytes_per_weight * weights / machine.bytes_per_s
        multiply = 2 * weights * batch / machine.flop_per_s
        return batch / (max(fetch, multiply) + batch * context * self.kv_bytes / machine.bytes_per_s)

    def prefill_limit(self, machine: Machine) -> float:
        """Prompt tokens per second; attention counts as nothing."""
        return machine.flop_per_s / (2 * self.layer_weights)


def measure(size: int = 2048, buffer_bytes: int = 2**29, tries: int = 8) -> Machine:
    """The best of several tries, as it is a limit; takes about two seconds."""
    buffer = torch.ones(buffer_bytes // 4)
    one, other = (torch.ones(size, size, dtype=choose_dtype("auto", torch.device("cpu"))) for _ in range(2))
    return Machine(
        bytes_per_s=buffer.nbytes / _shortest(buffer.sum, tries),
        flop_per_s=2 * size**3 / _shortest(lambda: one @ other, tries),
    )


def _shortest(work: Callable[[], object], tries: int) -> float:
    seconds = []
    for _ in range(tries):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
