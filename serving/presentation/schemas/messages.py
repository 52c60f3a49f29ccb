"""Chat messages: from the wire to what chat templates take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from serving.application.media import MediaSource
from serving.presentation.schemas.audio import InputAudioPart
from serving.presentation.schemas.base import INT32, Array, Unsupported, Wire, refusal, whole
from serving.presentation.schemas.media import ImagePart, InputVideoPart, VideoPart, is_shown, sources_of

SHOWN = ("image_url", "video_url", "input_video", "input_audio")


class TextPart(Wire):
    """A part of a message's content that is text."""

    type: Literal["text"]
    text: str

    def template(self) -> dict[str, str]:
        return {"type": "text", "text": self.text}


def _of_users(part: Any) -> Any:
    if isinstance(part, dict) and part.get("type") in SHOWN:
        raise refusal("{param} is a picture, a clip or a sound, which only messages of users may have", "type")
    return part


Content = Annotated[
    Annotated[str, Tag("text")] | Annotated[Array[Annotated[TextPart, BeforeValidator(_of_users)]], Tag("parts")],
    Discriminator(lambda value: "parts" if isinstance(value, list) else "text"),
]
"""A string, or text parts that are put together."""
Part = Annotated[TextPart | ImagePart | VideoPart | InputVideoPart | InputAudioPart, Field(discriminator="type")]
UserContent = Annotated[
    Annotated[str, Tag("text")] | Annotated[Array[Part], Tag("parts")],
    Discriminator(lambda value: "parts" if isinstance(value, list) else "text"),
]
"""A string; or parts: texts, which are put together, pictures, clips and sounds, in any order."""


def text_of(content: Any) -> str:
    """Content as one string."""
    if isinstance(content, list):
        return "".join(part.text for part in content)
    return content or ""


def content_of(content: Any) -> str | list[dict[str, str]]:
    """Content as chat templates take it: parts where it shows something, else one string."""
    return [part.template() for part in content] if is_shown(content) else text_of(content)


class _Named(Wire):
    name: str | None = None
    """Who speaks, for templates that show it."""

    def template(self) -> dict[str, Any]:
        """As chat templates take it."""
        role = "system" if self.role == "developer" else self.role
        message = {"role": role, "content": content_of(self.content)}
        return message if self.name is None else {**message, "name": self.name}


class SystemMessage(_Named):
    """Instructions; "developer" is the same role."""

    role: Literal["system", "developer"]
    content: Content


class UserMessage(_Named):
    """What a person writes, says and shows."""

    role: Literal["user"]
    content: UserContent


class CalledFunction(Wire):
    name: str
    arguments: str
    """A JSON object, as a string."""

    @field_validator("arguments")
    @classmethod
    def _an_object(cls, arguments: str) -> str:
        try:
            value = json.loads(arguments or "{}")
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise refusal("{param} must be a string that holds a JSON object")
        return arguments or "{}"


class CalledTool(Wire):
    """A call that the model made before."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: CalledFunction
    index: whole(0, INT32) | None = None
    """Of streamed deltas; changes nothing."""

    def template(self) -> dict[str, Any]:
        """As chat templates take it: the arguments are an object."""
        function = {"name": self.function.name, "arguments": json.loads(self.function.arguments)}
        call = {"type": "function", "function": function}
        return call if self.id is None else {"id": self.id, **call}


class SpokenBefore(Wire):
    id: str
    """As the answer said."""


class AssistantMessage(_Named):
    """An answer of before; one that only calls tools needs no content."""

    role: Literal["assistant"]
    content: Content | None = None
    reasoning_content: str | None = None
    """What was thought before it, for templates that show it."""
    tool_calls: Array[CalledTool] | None = None
    refusal: Unsupported[None] = None
    audio: SpokenBefore | None = None
    """An answer that was spoken, in place of its content."""
    function_call: Unsupported[None] = None
    annotations: Unsupported[Annotated[list[Any], Field(max_length=0)]] = None

    @model_validator(mode="after")
    def _says_something(self) -> AssistantMessage:
        if self.content is None and not self.tool_calls and not self.audio:
            raise refusal("{param} is missing", "content")
        return self

    def template(self) -> dict[str, Any]:
        message = super().template()
        if self.reasoning_content:
            message["reasoning_content"] = self.reasoning_content
        if self.tool_calls:
            message["tool_calls"] = [call.template() for call in self.tool_calls]
        return message


class ToolMessage(_Named):
    """What a tool answered."""

    role: Literal["tool"]
    tool_call_id: str
    content: Content

    def template(self) -> dict[str, Any]:
        return {**super().template(), "tool_call_id": self.tool_call_id}


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]
Messages = Annotated[Array[Message], Field(min_length=1)]


def sources_in(messages: Sequence[Wire], place: str = "messages") -> list[MediaSource]:
    """What the messages show, in their order."""
    return [one for at, message in enumerate(messages) for one in sources_of(message.content, f"{place}[{at}].content")]
