"""Every knob of the scheduler in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """How many requests run at once, in how much memory, and what one step may hold.

    Raises ValueError when two knobs contradict each other.
    """

    policy: str = "continuous-batched-prefill"
    """Batching policy by name; see `serving.domain.policies`."""
    max_num_seqs: int = 32
    """Most sequences that run (hold KV blocks) at the same time."""
    max_num_batched_tokens: int = 2048
    """Most tokens computed in one step, prompts and decodes together; at least `max_num_seqs`."""
    prefill_chunk: int = 0
    """Most tokens of one prompt in one step; 0 leaves the step's budget as the only limit."""
    block_size: int = 16
    """Tokens per KV block."""
    num_blocks: int | None = None
    """KV blocks in the pool; None takes as many as fit into `kv_memory_mb`."""
    kv_memory_mb: int = 512
    """Memory for keys and values in MiB, used when `num_blocks` is None."""
    prefix_caching: bool = True
    """Keep the blocks of prompts and answers that are done, for requests that begin the same way."""
    queue_limit: int = 256
    """Requests that may wait beyond the `max_num_seqs` that run; more are refused with `QueueFull`."""
    mailbox_tokens: int = 65536
    """Tokens a client may leave unread before it is cancelled as a slow consumer."""
    stall_seconds: float = 60.0
    """The engine is unhealthy when work waited this long and no step finished."""

    def __post_init__(self) -> None:
        for name in ("max_num_seqs", "max_num_batched_tokens", "block_size", "kv_memory_mb", "mailbox_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.prefill_chunk < 0 or self.queue_limit < 0:
            raise ValueError("prefill_chunk and queue_limit must not be negative")
        if self.num_blocks is not None and self.num_blocks < 1:
            raise ValueError(f"num_blocks must be at least 1, not {self.num_blocks}")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) must be at least max_num_seqs "
                f"({self.max_num_seqs}), or a full batch cannot decode in one step"
            )
