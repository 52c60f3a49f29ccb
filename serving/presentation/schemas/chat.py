"""POST /v1/chat/completions and what is rendered like it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from serving.application.chat import GenerateChat
from serving.application.media import MediaSource
from serving.application.rendering import RenderChat
from serving.application.speech import NativeSpeech
from serving.domain.media import Media
from serving.presentation.schemas.audio import AudioOutput
from serving.presentation.schemas.base import Count, Unsupported, Wire, refusal, whole
from serving.presentation.schemas.messages import Messages, sources_in
from serving.presentation.schemas.sampling import SamplingFields
from serving.presentation.schemas.steering import SteeringFields


class TemplateFields(Wire):
    """How messages become a prompt. Extensions, all of them."""

    add_generation_prompt: bool | None = None
    """Whether the prompt ends with the beginning of an answer; by default it does."""
    continue_final_message: bool = False
    """The last message is the beginning of the answer, and the model goes on with it."""
    chat_template_kwargs: Annotated[dict[str, Any], Field(max_length=16)] | None = None
    """Variables for the model's chat template, for example {"enable_thinking": false}."""

    @model_validator(mode="after")
    def _one_of_both(self) -> TemplateFields:
        if self.continue_final_message and self.add_generation_prompt:
            raise refusal('{param} does not go together with "add_generation_prompt": true', "continue_final_message")
        return self


    def prompt_of(
        self, messages: Sequence[Wire], tools: list[dict[str, Any]], media: tuple[Media, ...] = ()
    ) -> RenderChat:
        """How messages and tools become a prompt; `media` are what the messages show."""
        return RenderChat(
            [message.template() for message in messages],
            tools,
            add_generation_prompt=not self.continue_final_message and self.add_generation_prompt is not False,
            continue_final_message=self.continue_final_message,
            variables=self.chat_template_kwargs or {},
            media=media,
        )


class ChatCompletionRequest(SamplingFields, SteeringFields, TemplateFields):
    """A conversation to answer."""

    messages: Messages
    max_completion_tokens: Count | None = None
    """The newer name of `max_tokens`."""
    logprobs: bool = False
    top_logprobs: whole(0, 20) | None = None
    modalities: Annotated[list[Literal["text", "audio"]], Field(min_length=1, max_length=2)] | None = None
    """With "audio" the answer is spoken."""
    audio: AudioOutput | None = None
    """How."""
    functions: Unsupported[Annotated[list[Any], Field(max_length=0)]] = None
    function_call: Unsupported[Literal["none"]] = None
    prediction: Unsupported[None] = None
    reasoning_effort: Unsupported[None] = None
    verbosity: Unsupported[None] = None
    web_search_options: Unsupported[None] = None

    @model_validator(mode="after")
    def _agrees(self) -> ChatCompletionRequest:
        if len({self.max_tokens, self.max_completion_tokens} - {None}) > 1:
            raise refusal(
                "max_completion_tokens and max_tokens contradict each other: send one of them", "max_tokens"
            )
        if self.top_logprobs and not self.logprobs:
            raise refusal('{param} needs "logprobs": true', "top_logprobs")
        self.forced(self.grammar())
        self._sounds()
        return self

    def _sounds(self) -> None:
        if self.audio is None:
            if self.speaks:
                raise refusal('{param} is missing: the voice and the format of a spoken answer', "audio")
            return
        if not self.speaks:
            raise refusal('{param} needs "modalities": ["text", "audio"]', "audio")
        if (self.n or 1) > 1:
            raise refusal("{param} must be 1 where the answer is spoken", "n")
        if self.logprobs:
            raise refusal("{param} does not go together with a spoken answer", "logprobs")
        if self.stream and self.audio.format != "pcm16":
            raise refusal('{param} must have the format "pcm16" where the answer streams', "audio")

    @property
    def speaks(self) -> bool:
        """Whether the answer is spoken."""
        return "audio" in (self.modalities or ())

    def without_messages(self) -> ChatCompletionRequest:
        """The same for whoever wants to know how to answer, not what."""
        return self.model_copy(update={"messages": []})

    def sources(self) -> list[MediaSource]:
        """What the messages show."""
        return sources_in(self.messages)

    def prompt(self, media: tuple[Media, ...] = ()) -> RenderChat:
        """How the prompt is made."""
        return self.prompt_of(self.messages, self.offered_tools(), media)

    def command(self, tenant: str, media: tuple[Media, ...] = (), heard_by: NativeSpeech | None = None) -> GenerateChat:
        """The use case; `media` are what `sources` became, and `heard_by` is who heard its sounds, if the model itself did."""
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        options = self.options(
            max_tokens=self.max_completion_tokens or self.max_tokens,
            max_tokens_param="max_completion_tokens" if self.max_completion_tokens else "max_tokens",
            logprobs=logprobs,
        )
        forced = self.forced(options.grammar)
        return GenerateChat(self.prompt(media), forced, self.parallel_tool_calls, options, tenant, heard_by, self.speaks)
