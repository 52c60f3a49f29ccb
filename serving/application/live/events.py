"""What happens in a live conversation, in its order; presentation writes it as JSON. All of it is immutable."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from serving.application.deltas import Usage
from serving.domain.dialogue import Item, Part
from serving.domain.errors import ServingError

AnswerStatus = Literal["in_progress", "completed", "cancelled", "incomplete", "failed"]


@dataclass(frozen=True, slots=True)
class TurnStarted:
    """Somebody began to speak. What they say will be this item; its sound, padding included, begins at `at_ms` of the session's."""

    item_id: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class TurnStopped:
    item_id: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Committed:
    item_id: str
    previous: str | None


@dataclass(frozen=True, slots=True)
class Cleared:
    """The sound that was not committed is forgotten."""


@dataclass(frozen=True, slots=True)
class ItemAdded:
    """`done`: nothing of it will change."""

    item: Item
    previous: str | None
    done: bool = False


@dataclass(frozen=True, slots=True)
class ItemDeleted:
    item_id: str


@dataclass(frozen=True, slots=True)
class ItemShown:
    """It was asked for."""

    item: Item


@dataclass(frozen=True, slots=True)
class ItemTruncated:
    item_id: str
    part: int
    heard_ms: int


@dataclass(frozen=True, slots=True)
class Understood:
    """More words of a turn."""

    item_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Transcribed:
    """All words of a turn, which lasted `seconds`."""

    item_id: str
    text: str
    seconds: float


@dataclass(frozen=True, slots=True)
class NotTranscribed:
    item_id: str
    error: ServingError


@dataclass(frozen=True, slots=True)
class AnswerState:
    """An answer as it is now."""

    id: str
    status: AnswerStatus = "in_progress"
    reason: str | None = None
    error: ServingError | None = None
    outputs: tuple[Item, ...] = ()
    usage: Usage | None = None
    modality: Literal["text", "audio"] = "audio"
    voice: str | None = None
    format: str = "audio/pcm"
    max_tokens: int | None = None
    in_dialogue: bool = True
    metadata: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class AnswerBegan:
    answer: AnswerState


@dataclass(frozen=True, slots=True)
class AnswerEnded:
    answer: AnswerState


@dataclass(frozen=True, slots=True)
class OutputOpened:
    """A message or a call is being made; `index` among the outputs of its answer."""

    answer_id: str
    index: int
    item: Item


@dataclass(frozen=True, slots=True)
class OutputClosed:
    answer_id: str
    index: int
    item: Item


@dataclass(frozen=True, slots=True)
class PartOpened:
    answer_id: str
    index: int
    item_id: str
    part: Part


@dataclass(frozen=True, slots=True)
class PartClosed:
    answer_id: str
    index: int
    item_id: str
    part: Part


@dataclass(frozen=True, slots=True)
class Said:
    """More words of an answer; `aloud`: it is their sound that counts."""

    answer_id: str
    index: int
    item_id: str
    text: str
    aloud: bool


@dataclass(frozen=True, slots=True)
class Sounded:
    """More sound of an answer, in the session's format."""

    answer_id: str
    index: int
    item_id: str
    sound: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Called:
    """The arguments of a call, all of them."""

    answer_id: str
    index: int
    item: Item


@dataclass(frozen=True, slots=True)
class Problem:
    """Something could not be done; the conversation goes on. `event_id` is what the client called its request."""

    error: ServingError
    event_id: str | None = None


LiveEvent = (
    TurnStarted | TurnStopped | Committed | Cleared | ItemAdded | ItemDeleted | ItemShown | ItemTruncated | Understood
    | Transcribed | NotTranscribed | AnswerBegan | AnswerEnded | OutputOpened | OutputClosed | PartOpened | PartClosed
    | Said | Sounded | Called | Problem
)
