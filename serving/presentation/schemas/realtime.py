"""/v1/realtime: what a client may say, event by event, as the OpenAI Realtime protocol has it."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from serving.domain.dialogue import Item, Part
from serving.domain.errors import InvalidRequest
from serving.presentation.schemas.audio import VoiceName
from serving.presentation.schemas.base import INT32, Metadata, Name, Unsupported, Wire, refusal, whole
from serving.presentation.schemas.messages import CalledFunction
from serving.presentation.schemas.responses import NamedResponseTool, ResponseTool, ResponseToolChoice
from serving.presentation.schemas.steering import forced_tool
from serving.presentation.schemas.words import describe

MOST_TEXT = 2**20
MOST_TOOLS = 128
Modalities = Annotated[list[Literal["text", "audio"]], Field(min_length=1, max_length=1)]
Text = Annotated[str, Field(max_length=MOST_TEXT)]
ItemId = Annotated[str, Field(min_length=1, max_length=64)]
MaxTokens = Annotated[
    Annotated[Literal["inf"], Tag("word")] | Annotated[whole(1, INT32), Tag("number")],
    Discriminator(lambda value: "word" if isinstance(value, str) else "number"),
]


class _Partial(Wire):
    """Fields that are absent stay as they are; those named here may be null, which switches something off."""

    @classmethod
    def _takes_null(cls, name: str) -> bool:
        return name in ("turn_detection", "transcription", "noise_reduction")

    def says(self, name: str) -> bool:
        """Whether a field was sent."""
        return name in self.model_fields_set


class PcmFormat(Wire):
    type: Literal["audio/pcm"]
    rate: Literal[24000] = 24000


class G711Format(Wire):
    type: Literal["audio/pcmu", "audio/pcma"]


SoundFormatField = Annotated[PcmFormat | G711Format, Field(discriminator="type")]


class Transcription(Wire):
    """Whoever hears for this server writes down all of it; the model cannot be chosen here."""

    model: Name | None = None
    language: Unsupported[Literal["en"]] = None
    prompt: Unsupported[Literal[""]] = None


class ServerVad(Wire):
    type: Literal["server_vad"]
    threshold: Annotated[float, Field(ge=0.05, le=0.95, allow_inf_nan=False)] = 0.5
    prefix_padding_ms: whole(0, 5000) = 300
    silence_duration_ms: whole(100, 10_000) = 500
    create_response: bool = True
    interrupt_response: bool = True
    idle_timeout_ms: Unsupported[None] = None


class SemanticVad(Wire):
    type: Literal["semantic_vad"]
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True


TurnDetection = Annotated[ServerVad | SemanticVad, Field(discriminator="type")]


class AudioInput(_Partial):
    format: SoundFormatField | None = None
    transcription: Transcription | None = None
    turn_detection: TurnDetection | None = None
    noise_reduction: Unsupported[None] = None


class AudioOutput(Wire):
    format: SoundFormatField | None = None
    voice: VoiceName | None = None
    speed: Annotated[float, Field(ge=0.25, le=1.5, allow_inf_nan=False)] | None = None


class AudioFields(Wire):
    input: AudioInput | None = None
    output: AudioOutput | None = None


class ToolFields(Wire):
    tools: Annotated[list[ResponseTool], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None
    prompt: Unsupported[None] = None
    reasoning: Unsupported[None] = None

    def forced(self, choice: Any, names: list[str]) -> str | None:
        """The tool that must be called, see `forced_tool`."""
        named = choice.name if isinstance(choice, NamedResponseTool) else None
        return forced_tool(choice if isinstance(choice, str) else None, named, names, None)


class Session(ToolFields):
    """What is sent changes; the rest stays."""

    type: Literal["realtime"] = "realtime"
    model: Name | None = None
    instructions: Text | None = None
    output_modalities: Modalities | None = None
    audio: AudioFields | None = None
    max_output_tokens: MaxTokens | None = None
    include: Unsupported[Annotated[list[Any], Field(max_length=0)]] = None
    tracing: Unsupported[None] = None
    truncation: Unsupported[Literal["auto"]] = None


class InputText(Wire):
    type: Literal["input_text"]
    text: Text


class InputAudio(Wire):
    type: Literal["input_audio"]
    audio: str | None = None
    transcript: Text | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> InputAudio:
        if (self.audio is None) == (self.transcript is None):
            raise refusal('{param} needs either "audio" or "transcript"')
        return self


class OutputText(Wire):
    type: Literal["output_text"]
    text: Text


class OutputAudio(Wire):
    type: Literal["output_audio"]
    transcript: Text
    audio: Unsupported[None] = None


class _Item(Wire):
    id: ItemId | None = None
    object: Literal["realtime.item"] | None = None
    status: Literal["completed", "incomplete", "in_progress"] | None = None


class MessageItem(_Item):
    type: Literal["message"]
    role: Literal["system", "user", "assistant"]
    content: Annotated[
        list[Annotated[InputText | InputAudio | OutputText | OutputAudio, Field(discriminator="type")]],
        Field(min_length=1, max_length=64),
    ]

    @model_validator(mode="after")
    def _fits_the_role(self) -> MessageItem:
        allowed = {"system": ("input_text",), "user": ("input_text", "input_audio"), "assistant": ("output_text", "output_audio")}
        for part in self.content:
            if part.type not in allowed[self.role]:
                raise refusal(f'{{param}} of a message of role "{self.role}" is {" or ".join(allowed[self.role])}', "content")
        return self

    def item(self, item_id: str) -> Item:
        return Item(item_id, "message", self.role, [_part(part) for part in self.content])

    def sound(self) -> bytes:
        """Of its parts that nobody has written down, one at most."""
        sounds = [part.audio for part in self.content if isinstance(part, InputAudio) and part.audio is not None]
        if len(sounds) > 1 or (sounds and self.content[-1].type != "input_audio"):
            raise InvalidRequest("a message has at most one audio part, and it is the last one", param="item.content")
        return from_base64(sounds[0], "item.content") if sounds else b""


class FunctionCallItem(_Item, CalledFunction):
    type: Literal["function_call"]
    call_id: ItemId | None = None

    def item(self, item_id: str) -> Item:
        return Item(item_id, "function_call", "assistant", [], "completed", self.call_id or item_id, self.name, self.arguments)

    def sound(self) -> bytes:
        return b""


class FunctionOutputItem(_Item):
    type: Literal["function_call_output"]
    call_id: ItemId
    output: Text

    def item(self, item_id: str) -> Item:
        return Item(item_id, "function_call_output", "user", [], "completed", self.call_id, output=self.output)

    def sound(self) -> bytes:
        return b""


AnyItem = Annotated[MessageItem | FunctionCallItem | FunctionOutputItem, Field(discriminator="type")]


def _part(part: InputText | InputAudio | OutputText | OutputAudio) -> Part:
    if isinstance(part, InputText | OutputText):
        return Part(part.type, part.text)
    return Part(part.type, part.transcript)


class ResponseAudio(Wire):
    output: AudioOutput | None = None


class ResponseFields(ToolFields):
    """One answer that is given otherwise than the session says."""

    instructions: Text | None = None
    output_modalities: Modalities | None = None
    audio: ResponseAudio | None = None
    max_output_tokens: MaxTokens | None = None
    conversation: Literal["auto", "none"] = "auto"
    input: Annotated[list[AnyItem], Field(max_length=256)] | None = None
    metadata: Metadata | None = None


class _Event(Wire):
    event_id: Annotated[str, Field(max_length=512)] | None = None


class SessionUpdate(_Event):
    type: Literal["session.update"]
    session: Session


class Append(_Event):
    type: Literal["input_audio_buffer.append"]
    audio: str

    @field_validator("audio")
    @classmethod
    def _not_empty(cls, audio: str) -> str:
        if not audio:
            raise refusal("{param} is empty")
        return audio


class Commit(_Event):
    type: Literal["input_audio_buffer.commit"]


class Clear(_Event):
    type: Literal["input_audio_buffer.clear"]


class ItemCreate(_Event):
    type: Literal["conversation.item.create"]
    item: AnyItem
    previous_item_id: ItemId | None = None


class ItemDelete(_Event):
    type: Literal["conversation.item.delete"]
    item_id: ItemId


class ItemRetrieve(_Event):
    type: Literal["conversation.item.retrieve"]
    item_id: ItemId


class ItemTruncate(_Event):
    type: Literal["conversation.item.truncate"]
    item_id: ItemId
    content_index: whole(0, INT32)
    audio_end_ms: whole(0, INT32)


class ResponseCreate(_Event):
    type: Literal["response.create"]
    response: ResponseFields | None = None


class ResponseCancel(_Event):
    type: Literal["response.cancel"]
    response_id: ItemId | None = None


EVENTS: dict[str, type[_Event]] = {
    kind.model_fields["type"].annotation.__args__[0]: kind
    for kind in (
        SessionUpdate, Append, Commit, Clear, ItemCreate, ItemDelete, ItemRetrieve, ItemTruncate, ResponseCreate,
        ResponseCancel,
    )
}
"""By their type."""


def event_type(event: Any) -> type[_Event]:
    """Which of the events it is. Raises `InvalidRequest`."""
    kind = event.get("type") if isinstance(event, dict) else None
    if not isinstance(kind, str) or kind not in EVENTS:
        raise InvalidRequest(f'"type" must be one of {", ".join(EVENTS)}, not {describe(kind)}', param="type", code="unknown_event")
    return EVENTS[kind]


def from_base64(text: str, param: str) -> bytes:
    """Raises `InvalidRequest`."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f'"{param}" must be audio as base64', param=param, code="invalid_value") from None
