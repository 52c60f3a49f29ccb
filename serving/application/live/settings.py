"""How a live conversation is held: what a session says, and what one answer says otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from serving.application.live.ports import SoundFormat
from serving.domain.dialogue import Item
from serving.domain.turn_taking import TurnRules

Modality = Literal["text", "audio"]


@dataclass(frozen=True, slots=True)
class AnswerSettings:
    """How answers are given. `forced` as in `GenerateChat`."""

    instructions: str = ""
    modality: Modality = "audio"
    voice: str | None = None
    speed: float = 1.0
    format: SoundFormat = field(kw_only=True)
    tools: tuple[dict[str, Any], ...] = ()
    may_call: bool = True
    """Whether tools may be called; they stay known while they may not."""
    forced: str | None = None
    parallel: bool = True
    max_tokens: int | None = None

    @property
    def offered(self) -> tuple[dict[str, Any], ...]:
        """The tools that may be called."""
        return self.tools if self.may_call else ()


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """`turns` None: the client says when a turn is over. `transcripts`: the client wants to read what was heard."""

    answers: AnswerSettings
    input_format: SoundFormat
    turns: TurnRules | None = TurnRules()
    answer_turns: bool = True
    """Every turn is answered."""
    interruptible: bool = True
    """Whoever begins to speak ends the answer that is being given."""
    transcripts: bool = True


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """One answer that was asked for. `items`: answer these instead of the conversation."""

    settings: AnswerSettings
    items: tuple[Item, ...] | None = None
    in_dialogue: bool = True
    metadata: dict[str, str] | None = None
