"""What the engine tells the one who submitted a request. Every id gets exactly one terminal event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Log-probability (nats) of the sampled token and of the likeliest alternatives, best first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TokensGenerated:
    """New tokens of one request since the last event, in order. Stop tokens are never included."""

    request_id: str
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptScored:
    """Log-probabilities of the next tokens of the prompt, in order and from its second token on; before any `TokensGenerated`."""

    request_id: str
    logprobs: tuple[TokenLogprob, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The terminal event. `error` is a message when `reason` is "error". `cached_tokens`: prompt tokens not recomputed.

    `mask_seconds` were spent on what its grammar allows; only observers are told.
    """

    request_id: str
    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    error: str | None = None
    mask_seconds: float = 0.0


Event = PromptScored | TokensGenerated | Finished
