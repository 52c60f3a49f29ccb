"""A request on its way: WAITING -> RUNNING -> FINISHED, and back to WAITING when it has to give its memory up.

There is no prefill phase and no decode phase. A sequence knows how many of its tokens are `computed` (their keys and
values are in the KV pool) and how many there are (`target`). A policy hands out tokens until the first number has caught
up with the second; then the model's last logits yield one more token. Chunked prefill, prefix-cache hits and
recomputation after preemption are all this one rule (the idea is vLLM V1's).
"""

from __future__ import annotations

from enum import Enum

from serving.domain.blocks import BlockChain
from serving.domain.events import FinishReason
from serving.domain.request import Request


class State(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class Sequence:
    """The engine's mutable state of one request. `seed` makes its sampling repeatable."""

    __slots__ = (
        "request",
        "id",
        "arrival",
        "seed",
        "tokens",
        "chain",
        "computed",
        "scored",
        "cached_tokens",
        "preemptions",
        "state",
        "reason",
    )

    def __init__(self, request: Request, *, arrival: float, seed: int, block_size: int) -> None:
        self.request = request
        self.id = request.id
        self.arrival = arrival
        self.seed = seed
        self.tokens = list(request.prompt_tokens)
        # Cached blocks would leave prompt tokens without logits: a sequence that is asked for them shares with nobody.
        alone = () if request.sampling.prompt_logprobs is None else ("request", request.id)
        adapter = () if request.adapter is None else ("adapter", request.adapter)
        self.chain = BlockChain(self.tokens, (request.tenant, *adapter, *alone), block_size, request.shown)
        self.computed = 0
        self.scored = 0  # prompt tokens that logits have been asked for, at most all but the last
        self.cached_tokens = 0
        self.preemptions = 0
        self.state = State.WAITING
        self.reason: FinishReason | None = None

    @property
    def target(self) -> int:
        return len(self.tokens)

    @property
    def remaining(self) -> int:
        return len(self.tokens) - self.computed

    @property
    def generated(self) -> int:
        return len(self.tokens) - len(self.request.prompt_tokens)

    @property
    def prefilling(self) -> bool:
        """True until the whole known text is computed once: a decode is a sequence that lacks only its newest token."""
        return self.remaining > 1 or self.generated == 0

    def admit(self, cached_tokens: int) -> None:
        """Start running with `cached_tokens` already in memory."""
        self._move(State.WAITING, State.RUNNING)
        self.computed = cached_tokens
        if not self.preemptions:
            self.cached_tokens = cached_tokens

    def advance(self, count: int) -> None:
        """`count` more tokens have their keys and values."""
        if not 0 < count <= self.remaining:
            raise ValueError(f"{self.id}: cannot compute {count} tokens, {self.remaining} remain")
        self.computed += count

    def append(self, token: int) -> FinishReason | None:
        """Take a sampled token; returns why the sequence ends with it, if it does. A stop token is not kept, unless somebody asks for it.

        Where there is a grammar it has allowed the stop token: at its end `min_tokens` does not hold.
        """
        sampling = self.request.sampling
        if token in sampling.stop_token_ids and (self.generated >= sampling.min_tokens or sampling.grammar):
            if sampling.keep_stop_token:
                self.tokens.append(token)
            return "stop"
        self.tokens.append(token)
        return "length" if self.generated >= sampling.max_tokens else None

    def unscored(self, start: int, count: int) -> range:
        """Positions of a step that is to compute `count` tokens from `start`, whose logits say how likely a prompt token is."""
        if self.request.sampling.prompt_logprobs is None:
            return range(0)
        return range(max(start, self.scored), min(start + count, len(self.request.prompt_tokens) - 1))

    def preempt(self) -> None:
        """Give all memory up; what was generated stays and will be recomputed like a prompt."""
        self._move(State.RUNNING, State.WAITING)
        self.computed = 0
        self.preemptions += 1

    def finish(self, reason: FinishReason) -> None:
        if self.state is State.FINISHED:
            raise ValueError(f"{self.id} finished already ({self.reason})")
        self.state = State.FINISHED
        self.reason = reason

    def _move(self, source: State, target: State) -> None:
        if self.state is not source:
            raise ValueError(f"{self.id} is {self.state.value}, not {source.value}")
        self.state = target
