"""What a running generation tells the outside, in the language of the domain; presentation writes it as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ChoiceReason = Literal["stop", "length", "tool_calls", "cancelled", "error"]


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """A token as text, its log-probability (nats), where it begins in the answer (characters), and the best others."""

    text: str
    logprob: float | None
    offset: int
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer. `logprobs` cover the tokens whose text begins in what was sent so far."""

    choice: int
    text: str
    logprobs: tuple[ScoredToken, ...] = ()


@dataclass(frozen=True, slots=True)
class ThoughtDelta:
    """More of what is thought before the answer; `logprobs` as of a `TextDelta`, markers included."""

    choice: int
    text: str
    logprobs: tuple[ScoredToken, ...] = ()


@dataclass(frozen=True, slots=True)
class SoundDelta:
    """More of how the answer sounds, as tokens of a model that speaks itself."""

    choice: int
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PromptDelta:
    """How likely the prompt was, before anything else of a choice. Nothing is known of its first token: its `logprob` is None."""

    choice: int
    logprobs: tuple[ScoredToken, ...]


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A complete tool call; `index` counts the calls of one choice."""

    choice: int
    index: int
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ChoiceFinished:
    """Nothing follows for this choice. `error` is a message when `reason` is "error" or "cancelled"."""

    choice: int
    reason: ChoiceReason
    error: str | None = None


Delta = PromptDelta | ThoughtDelta | TextDelta | SoundDelta | ToolCallDelta | ChoiceFinished


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens paid for; `cached_tokens` are prompt tokens that were not computed again, `thought_tokens` those of the answer that were thought."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    thought_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens
