"""What a client asks for, after tokenising and validation. Immutable: the engine keeps its own state elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serving.domain.grammar import Constraint
from serving.domain.media import Placement

GREEDY_BELOW = 1e-5
"""Temperatures that would overflow float32 mean greedy."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to choose each next token, and when to stop. `temperature == 0` is greedy."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: all tokens
    min_p: float = 0.0  # least probability, as a share of the likeliest token's
    repetition_penalty: float = 1.0  # > 1: tokens of prompt and answer become unlikelier (CTRL, arXiv:1909.05858)
    presence_penalty: float = 0.0  # subtracted from the logits of tokens that the answer has
    frequency_penalty: float = 0.0  # the same, times how often the answer has them
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # added to the logits of these tokens
    max_tokens: int = 256
    min_tokens: int = 0
    stop_token_ids: frozenset[int] = frozenset()
    keep_stop_token: bool = False  # the stop token that ends an answer is a part of it, with its log-probability
    seed: int | None = None
    logprobs: int | None = None  # None: none; k: the chosen token's and the k likeliest
    prompt_logprobs: int | None = None  # the same for the prompt's tokens, all of which are computed then
    grammar: Constraint | None = None  # what the answer must look like; then stop tokens end it wherever it may end

    @property
    def is_greedy(self) -> bool:
        return self.temperature < GREEDY_BELOW

    @property
    def is_plain(self) -> bool:
        """Whether the model's own logits and a temperature decide on the next token, and nobody asks how likely it is."""
        held_back = self.min_tokens and self.stop_token_ids
        changed = self.logit_bias or held_back or self.presence_penalty or self.frequency_penalty or self.grammar
        cut = not self.is_greedy and (self.top_k > 0 or self.top_p < 1 or self.min_p > 0)
        return not (changed or cut or self.scored) and self.repetition_penalty == 1

    @property
    def likeliest_suffices(self) -> bool:
        """Whether the next token is the likeliest by the model's own logits, and nobody asks how likely it is."""
        return self.is_greedy and self.is_plain

    @property
    def scored(self) -> bool:
        """Whether anybody asks how likely a token is."""
        return self.logprobs is not None or self.prompt_logprobs is not None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model reads: tokens, and the pictures among them, in the order of their places.

    `positions` [3, tokens] says where each token is for a model that counts time, height and width apart; None is 0, 1, 2, ...
    """

    tokens: tuple[int, ...]
    media: tuple[Placement, ...] = ()
    positions: Any = field(default=None, repr=False, compare=False)


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
    media: tuple[Placement, ...] = ()
    """The pictures in the prompt, in the order of their places."""
    positions: Any = field(default=None, repr=False, compare=False)
    """As those of a `Prompt`."""
    adapter: str | None = None
    """Id of a low-rank adapter that the engine has been given; None is the base model."""
    ahead: int | None = None
    """While so many tokens of the answer wait for their reader, no further one is computed; None: it is never waited for."""

    @property
    def shown(self) -> list[tuple[int, str]]:
        """(position of the first placeholder, content) of each picture, as a `BlockChain` takes them."""
        return [(placement.start, placement.digest) for placement in self.media]
