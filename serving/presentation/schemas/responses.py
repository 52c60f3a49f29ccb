"""POST /v1/responses: what is asked, and the conversation that it means."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from serving.application.chat import GenerateChat
from serving.application.generation import Options
from serving.application.media import MediaSource
from serving.application.rendering import RenderChat
from serving.domain.grammar import Grammar
from serving.domain.media import Media
from serving.presentation.schemas.base import INT32, INT64, Array, Count, Metadata, Unsupported, Wire, refusal, whole
from serving.presentation.schemas.media import ImageItem, VideoItem, is_shown, sources_of
from serving.presentation.schemas.messages import CalledFunction, content_of, text_of
from serving.presentation.schemas.sampling import Temperature, TopP
from serving.presentation.schemas.steering import FunctionTool, Tool, ToolName, forced_tool, known_choice
from serving.presentation.schemas.structured import JsonObject, NamedSchema, PlainText, of_schema

Status = Literal["in_progress", "completed", "incomplete"]
Ignored = Annotated[list[Any], Field(max_length=4096)]


class TextItem(Wire):
    """A part of a message; what an answer said may be sent back as it came."""

    type: Literal["input_text", "output_text"]
    text: str
    annotations: Ignored | None = None
    logprobs: Ignored | None = None

    def template(self) -> dict[str, str]:
        """As chat templates take it."""
        return {"type": "text", "text": self.text}


Output = Annotated[
    Annotated[str, Tag("text")] | Annotated[Array[TextItem], Tag("parts")],
    Discriminator(lambda value: "parts" if isinstance(value, list) else "text"),
]
Part = Annotated[TextItem | ImageItem | VideoItem, Field(discriminator="type")]
ItemContent = Annotated[
    Annotated[str, Tag("text")] | Annotated[Array[Part], Tag("parts")],
    Discriminator(lambda value: "parts" if isinstance(value, list) else "text"),
]
"""A string; or parts: texts, which are put together, and where a user speaks, pictures and clips."""


class MessageItem(Wire):
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: ItemContent
    id: str | None = None
    status: Status | None = None

    @model_validator(mode="after")
    def _users_show(self) -> MessageItem:
        if self.role != "user" and is_shown(self.content):
            raise refusal("{param} has a picture or a clip, which only messages of users may have", "content")
        return self

    def add_to(self, messages: list[dict[str, Any]]) -> None:
        role = "system" if self.role == "developer" else self.role
        thought = messages.pop() if role == "assistant" and messages and _is_thought(messages[-1]) else {}
        messages.append({**thought, "role": role, "content": content_of(self.content)})


class ReasoningText(Wire):
    type: Literal["reasoning_text"]
    text: str


class ReasoningItem(Wire):
    """What the model thought before the answer or the call that follows."""

    type: Literal["reasoning"]
    content: Array[ReasoningText] | None = None
    id: str | None = None
    status: Status | None = None
    summary: Ignored | None = None
    encrypted_content: Unsupported[None] = None

    def add_to(self, messages: list[dict[str, Any]]) -> None:
        if thought := "".join(part.text for part in self.content or ()):
            before = messages.pop()["reasoning_content"] if messages and _is_thought(messages[-1]) else ""
            messages.append({"role": "assistant", "content": "", "reasoning_content": before + thought})


def _is_thought(message: dict[str, Any]) -> bool:
    return not message["content"] and "reasoning_content" in message and "tool_calls" not in message


class FunctionCallItem(CalledFunction):
    """A call that the model made before."""

    type: Literal["function_call"]
    call_id: str
    id: str | None = None
    status: Status | None = None

    def add_to(self, messages: list[dict[str, Any]]) -> None:
        """Calls belong to the answer before them."""
        if not messages or messages[-1]["role"] != "assistant":
            messages.append({"role": "assistant", "content": ""})
        function = {"name": self.name, "arguments": json.loads(self.arguments)}
        call = {"id": self.call_id, "type": "function", "function": function}
        messages[-1] = {**messages[-1], "tool_calls": [*messages[-1].get("tool_calls", []), call]}


class FunctionOutputItem(Wire):
    """What a function answered."""

    type: Literal["function_call_output"]
    call_id: str
    output: Output
    id: str | None = None
    status: Status | None = None

    def add_to(self, messages: list[dict[str, Any]]) -> None:
        messages.append({"role": "tool", "tool_call_id": self.call_id, "content": text_of(self.output)})


KINDS = ("message", "reasoning", "function_call", "function_call_output")


def _kind(item: Any) -> Any:
    if isinstance(item, dict):
        return item.get("type") or "message"
    return getattr(item, "type", "message")


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionOutputItem, Tag("function_call_output")],
    Discriminator(
        _kind,
        custom_error_type="unknown_type",
        custom_error_message=f"must be one of {', '.join(KINDS)}",
    ),
]
Input = Annotated[
    Annotated[str, Tag("text")] | Annotated[Array[Item], Field(min_length=1), Tag("items")],
    Discriminator(lambda value: "items" if isinstance(value, list) else "text"),
]


class _Typed(Wire):
    type: Literal["function"]


class ResponseTool(FunctionTool, _Typed):
    """A function, described one level higher than in chat completions."""

    def template(self) -> dict[str, Any]:
        """As chat templates take it."""
        own = {name: value for name in FunctionTool.model_fields if (value := getattr(self, name)) is not None}
        return Tool(type="function", function=FunctionTool(**own)).template()


class NamedResponseTool(_Typed):
    """This tool has to be called."""

    name: ToolName


ResponseToolChoice = Annotated[Literal["none", "auto", "required"] | NamedResponseTool, BeforeValidator(known_choice)]


class JsonSchemaText(NamedSchema):
    """What satisfies a JSON schema."""

    type: Literal["json_schema"]

    def grammar(self, param: str) -> Grammar:
        """What satisfies the schema."""
        return of_schema(self.json_schema, f"{param}.schema")


TextFormat = Annotated[PlainText | JsonObject | JsonSchemaText, Field(discriminator="type")]


class TextSettings(Wire):
    """How the answer is written."""

    format: TextFormat | None = None
    """Free text, a JSON object, or what satisfies a JSON schema."""
    verbosity: Unsupported[None] = None


class ResponseStreamOptions(Wire):
    include_obfuscation: Unsupported[Literal[False]] = None


class ResponseRequest(Wire):
    """An answer to an input, which may go on from a stored response."""

    input: Input
    """A user's text, or messages, function calls and their outputs."""
    model: str | None = None
    instructions: str | None = None
    """A system message for this response alone."""
    previous_response_id: str | None = None
    """The conversation so far; stored responses are forgotten when many newer ones came."""
    store: bool = True
    """Whether the response can be retrieved, and gone on from."""
    background: bool = False
    """Answer at once, and compute meanwhile: retrieve the response until its status says that it is done."""
    stream: bool = False
    stream_options: ResponseStreamOptions | None = None
    max_output_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: whole(-1, INT32) | None = None
    """An extension."""
    seed: whole(-INT64, INT64) | None = None
    """An extension."""
    priority: whole(-INT32, INT32) | None = None
    """An extension."""
    include: Array[Literal["message.output_text.logprobs"]] | None = None
    top_logprobs: whole(0, 20) | None = None
    tools: Array[ResponseTool] | None = None
    tool_choice: ResponseToolChoice | None = None
    """"none": the model sees no tools. "auto": it decides. "required": it calls at least one; or which one it calls."""
    parallel_tool_calls: bool = True
    """Whether one answer may have several calls."""
    text: TextSettings | None = None
    metadata: Metadata | None = None
    user: str | None = None
    """A label that changes nothing."""
    safety_identifier: str | None = None
    """A label that changes nothing."""
    prompt_cache_key: str | None = None
    """A label that changes nothing."""
    truncation: Unsupported[Literal["disabled"]] = None
    service_tier: Unsupported[Literal["auto", "default"]] = None
    conversation: Unsupported[None] = None
    max_tool_calls: Unsupported[None] = None
    prompt: Unsupported[None] = None
    reasoning: Unsupported[None] = None

    @model_validator(mode="after")
    def _agrees(self) -> ResponseRequest:
        if self.background and not self.store:
            raise refusal('{param} needs "store": true, or nobody could read the answer', "background")
        if self.background and self.stream:
            raise refusal('{param} does not go together with "stream": true on this server', "background")
        if self.stream_options is not None and not self.stream:
            raise refusal('{param} needs "stream": true', "stream_options")
        if self.top_logprobs and not self.include:
            raise refusal('{param} needs "include": ["message.output_text.logprobs"]', "top_logprobs")
        self.forced()
        return self

    def grammar(self) -> Grammar | None:
        """What the text of the answer must look like."""
        wanted = self.text.format if self.text is not None else None
        return None if wanted is None else wanted.grammar("text.format")

    def forced(self) -> str | None:
        """The tool that must be called, see `forced_tool`."""
        named = self.tool_choice.name if isinstance(self.tool_choice, NamedResponseTool) else None
        choice = self.tool_choice if isinstance(self.tool_choice, str) else None
        return forced_tool(choice, named, [tool.name for tool in self.tools or ()], self.grammar())

    def messages(self) -> list[dict[str, Any]]:
        """The input as chat templates take it."""
        if isinstance(self.input, str):
            return [{"role": "user", "content": self.input}]
        messages: list[dict[str, Any]] = []
        for item in self.input:
            item.add_to(messages)
        return messages

    def without_input(self) -> ResponseRequest:
        """The same for whoever wants to know how to answer, not what."""
        return self.model_copy(update={"input": ""})

    def sources(self) -> list[MediaSource]:
        """What the input shows."""
        if isinstance(self.input, str):
            return []
        shown = [(at, item) for at, item in enumerate(self.input) if isinstance(item, MessageItem)]
        return [one for at, item in shown for one in sources_of(item.content, f"input[{at}].content")]

    def command(
        self, history: Sequence[dict[str, Any]], tenant: str, media: tuple[Media, ...] = ()
    ) -> GenerateChat:
        """The use case, behind the messages of the responses before. `media` are what all of them show."""
        instructed = [{"role": "system", "content": self.instructions}] if self.instructions else []
        tools = [] if self.tool_choice == "none" else [tool.template() for tool in self.tools or ()]
        options = Options(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=0 if self.top_k == -1 else self.top_k,
            max_tokens=self.max_output_tokens,
            max_tokens_param="max_output_tokens",
            seed=self.seed,
            logprobs=(self.top_logprobs or 0) if self.include else None,
            priority=self.priority or 0,
            grammar=self.grammar(),
        )
        prompt = RenderChat([*instructed, *history, *self.messages()], tools, media=media)
        return GenerateChat(prompt, self.forced(), self.parallel_tool_calls, options, tenant, prompt_param="input")
