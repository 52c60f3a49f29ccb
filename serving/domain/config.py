"""Every knob of the scheduler and of its policies in one place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Victims = Literal["policy", "youngest", "least-computed"]


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """How many requests run at once, in how much memory, what one step may hold, and what each policy aims at.

    A policy gets this object when it is made and reads the knobs it knows. Raises ValueError for a value that cannot work
    and when two knobs contradict each other.
    """

    policy: str = "mixed-chunked"
    """Batching policy by name; see `serving.domain.policies`."""
    max_num_seqs: int = 32
    """Most sequences that run (hold KV blocks) at the same time."""
    max_num_batched_tokens: int = 2048
    """Most tokens computed in one step, prompts and decodes together; at least `max_num_seqs`."""
    prefill_chunk: int = 0
    """Most tokens of one prompt in one step; 0 leaves the step's budget as the only limit."""
    mixed_prefill_tokens: int = 128
    """Most prompt tokens in a step that also decodes, where the policy chunks prompts; 0: whatever the budget leaves."""
    step_pictures: int = 4
    """Most pictures that a step encodes, because everybody's next token waits for them; 0: no limit."""
    block_size: int = 32
    """Tokens per KV block; the native backend has no other size."""
    num_blocks: int | None = None
    """KV blocks in the pool; None takes as many as fit into `kv_memory_mb`."""
    kv_memory_mb: int | None = None
    """Most memory for keys and values in MiB, used when `num_blocks` is None; None takes half of what is free at the start."""
    prefix_caching: bool = True
    """Keep the blocks of prompts and answers that are done, for requests that begin the same way."""
    queue_limit: int = 256
    """Requests that may wait beyond the `max_num_seqs` that run; more are refused with `QueueFull`."""
    mailbox_tokens: int = 65536
    """Tokens a client may leave unread before it is cancelled as a slow consumer."""
    stall_seconds: float = 60.0
    """The engine is unhealthy when work waited this long and no step finished."""

    multi_step_seconds: float = 0.016
    """While nobody could join and all take the likeliest token or draw from all of them, the model generates tokens for
    so long before the engine looks around again, where the backend can; a request that arrives meanwhile waits. 0: one
    token at a time."""
    num_speculative_tokens: int = 4
    """With speculative decoding: most tokens guessed ahead for one sequence and checked in one step."""
    speculative_max_seqs: int = 2
    """With speculative decoding: guess only while at most so many sequences run; a larger batch has no arithmetic to spare."""

    watermark: float = 0.01
    """Part of the pool that admission leaves free, so that nobody is admitted only to be preempted a moment later."""
    expected_output: int = 256
    """Answer length in tokens that admission assumes until enough answers have ended to learn from."""
    output_quantile: float = 0.9
    """Which quantile of the answers seen so far admission takes for the length of the next; 1 is the most careful."""
    victims: Victims = "policy"
    """Who gives memory up when the pool runs dry: "policy" leaves it to the policy, else "youngest" or "least-computed"."""
    max_preemptions: int = 3
    """A policy may choose a sequence as victim this often; after that only the youngest go, so that nobody is stuck."""

    ageing_rate: float = 0.1
    """priority: levels of priority that a request gains per second; 0 lets a low priority starve."""
    fair_decode_cost: float = 2.0
    """fair: what a generated token counts; a prompt token counts 1."""
    tenant_weights: str = ""
    """fair: shares as "alice=2,bob=0.5"; everybody else has 1."""
    slo_ttft: float = 1.0
    """slo: seconds to the first token that a request without a deadline is promised."""
    slo_tpot: float = 0.1
    """slo: seconds per further token; prompts join a step only as far as its predicted duration stays below."""
    slo_patience: float = 10.0
    """slo: a request that missed its target gives way to those that can still meet theirs, for so many seconds."""

    def __post_init__(self) -> None:
        self._at_least(1, "max_num_seqs", "max_num_batched_tokens", "block_size")
        self._at_least(1, "mailbox_tokens", "expected_output", "num_speculative_tokens", "speculative_max_seqs")
        self._at_least(0, "prefill_chunk", "mixed_prefill_tokens", "step_pictures", "queue_limit", "max_preemptions")
        self._at_least(0, "ageing_rate", "fair_decode_cost", "slo_patience")
        if not 0 <= self.multi_step_seconds <= 1:
            raise ValueError(f"multi_step_seconds must be between 0 and 1 second, not {self.multi_step_seconds}")
        for name in ("num_blocks", "kv_memory_mb"):
            if getattr(self, name) is not None:
                self._at_least(1, name)
        for name in ("slo_ttft", "slo_tpot", "stall_seconds"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be more than 0 seconds, not {getattr(self, name)}")
        for name in ("watermark", "output_quantile"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, not {getattr(self, name)}")
        if self.victims not in get_args(Victims):
            raise ValueError(f'unknown victims "{self.victims}": choose one of {", ".join(get_args(Victims))}')
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) must be at least max_num_seqs "
                f"({self.max_num_seqs}), or a full batch cannot decode in one step"
            )
        parse_weights(self.tenant_weights)

    def _at_least(self, low: int, *names: str) -> None:
        for name in names:
            if not low <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least {low}, not {getattr(self, name)}")


def parse_weights(text: str) -> dict[str, float]:
    """ "alice=2,bob=0.5" as a dictionary. Raises ValueError for anything else."""
    weights = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        tenant, equals, number = pair.rpartition("=")
        try:
            weights[tenant.strip()] = weight = float(number)
        except ValueError:
            weight = 0.0
        if not equals or not tenant.strip() or not 0 < weight < math.inf:
            raise ValueError(f'cannot read "{pair}" in tenant_weights: write TENANT=WEIGHT,... as in alice=2,bob=0.5')
    return weights
