"""What a client asks for, after tokenising and validation. Immutable: the engine keeps its own state elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to choose each next token, and when to stop. `temperature == 0` is greedy."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: all tokens
    max_tokens: int = 256
    min_tokens: int = 0
    stop_token_ids: frozenset[int] = frozenset()
    seed: int | None = None
    logprobs: int | None = None  # None: none; k: the chosen token's and the k likeliest


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to complete. `arrival` is in seconds of the engine's monotonic clock; smaller `priority` is sooner."""

    id: str
    prompt_tokens: tuple[int, ...]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    arrival: float = 0.0
    priority: int = 0
    tenant: str = "default"
    deadline: float | None = None
