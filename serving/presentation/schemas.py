"""The requests of the OpenAI API that this server answers, read strictly: nothing is silently ignored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from serving.application.chat import GenerateChat
from serving.application.completion import GenerateText
from serving.application.generation import Options
from serving.domain.errors import InvalidRequest
from serving.presentation.constraints import read_grammar, read_tool_choice
from serving.presentation.messages import read_messages, read_tools
from serving.presentation.validation import Fields, wrong

MAX_CHOICES = 32  # prompts times n in one HTTP request
MAX_STOP_CHARACTERS = 256
MAX_BIASES = 1024
INT32, INT64 = 2**31 - 1, 2**63 - 1
LABELS = ("user", "safety_identifier", "prompt_cache_key")
UNSUPPORTED = {
    "metadata": ({},),
    "store": (False,),
    "service_tier": ("auto", "default"),
}
UNSUPPORTED_CHAT = UNSUPPORTED | {
    "modalities": (["text"],),
    "functions": ([],),
    "function_call": ("none",),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
    "verbosity": (),
    "web_search_options": (),
}
UNSUPPORTED_TEXT = UNSUPPORTED | {"suffix": ("",)}


@dataclass(frozen=True, slots=True)
class Delivery:
    """Which model answers, and how the answer travels."""

    model: str | None
    stream: bool
    include_usage: bool


@dataclass(frozen=True, slots=True)
class ChatCompletionRequest:
    """POST /v1/chat/completions."""

    delivery: Delivery
    command: GenerateChat

    @classmethod
    def read(cls, body: Any, tenant: str) -> ChatCompletionRequest:
        """Raises `InvalidRequest` naming the field."""
        fields = Fields(body)
        delivery = _delivery(fields)
        messages = read_messages(fields.required("messages"))
        options = _options(fields, _max_tokens(fields, "max_completion_tokens", "max_tokens"), _chat_logprobs(fields))
        choice = read_tool_choice(
            read_tools(fields), fields.take("tool_choice"), fields.take("parallel_tool_calls"), options.grammar
        )
        fields.unsupported(UNSUPPORTED_CHAT)
        fields.finish()
        command = GenerateChat(messages, choice.tools, choice.forced, choice.parallel, options, tenant)
        return cls(delivery, command)


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """POST /v1/completions."""

    delivery: Delivery
    command: GenerateText
    echo: bool

    @classmethod
    def read(cls, body: Any, tenant: str) -> CompletionRequest:
        """Raises `InvalidRequest` naming the field."""
        fields = Fields(body)
        delivery = _delivery(fields)
        prompts = _prompts(fields.required("prompt"))
        options = _options(fields, _max_tokens(fields, "max_tokens"), fields.integer("logprobs", 0, 20))
        echo = fields.boolean("echo")
        if echo and options.logprobs is not None:
            raise InvalidRequest('"echo" does not go together with "logprobs" on this server', param="echo")
        best_of = fields.integer("best_of", 1, MAX_CHOICES)
        if best_of not in (None, options.n):
            raise InvalidRequest('"best_of" is not supported by this server', param="best_of")
        fields.unsupported(UNSUPPORTED_TEXT)
        fields.finish()
        if len(prompts) * options.n > MAX_CHOICES:
            raise InvalidRequest(f"at most {MAX_CHOICES} answers (prompts times n) in one request", param="n")
        return cls(delivery, GenerateText(prompts, options, tenant), echo)


def _delivery(fields: Fields) -> Delivery:
    model = fields.text("model")
    stream = fields.boolean("stream")
    include_usage = False
    if (raw := fields.take("stream_options")) is not None:
        if not stream:
            raise InvalidRequest('"stream_options" needs "stream": true', param="stream_options")
        options = Fields(raw, "stream_options.")
        include_usage = options.boolean("include_usage")
        options.unsupported({"include_obfuscation": (False,)})
        options.finish()
    fields.ignore(*LABELS)
    return Delivery(model, stream, include_usage)


def _options(fields: Fields, max_tokens: int | None, logprobs: int | None) -> Options:
    top_p = fields.number("top_p", 0, 1)
    if top_p == 0:
        raise InvalidRequest('"top_p" must be above 0; for greedy answers send "temperature": 0', param="top_p")
    top_k = fields.integer("top_k", -1, INT32)
    return Options(
        temperature=fields.number("temperature", 0, 2),
        top_p=top_p,
        top_k=0 if top_k == -1 else top_k,
        min_p=fields.number("min_p", 0, 1),
        repetition_penalty=_repetition_penalty(fields),
        presence_penalty=fields.number("presence_penalty", -2, 2) or 0.0,
        frequency_penalty=fields.number("frequency_penalty", -2, 2) or 0.0,
        logit_bias=_logit_bias(fields),
        max_tokens=max_tokens,
        min_tokens=fields.integer("min_tokens", 0, INT32) or 0,
        stop=_stop(fields),
        stop_token_ids=_stop_token_ids(fields),
        ignore_eos=fields.boolean("ignore_eos"),
        seed=fields.integer("seed", -INT64, INT64),
        logprobs=logprobs,
        n=fields.integer("n", 1, MAX_CHOICES) or 1,
        priority=fields.integer("priority", -INT32, INT32) or 0,
        grammar=read_grammar(fields.take("response_format"), fields.take("structured_outputs")),
    )


def _max_tokens(fields: Fields, *names: str) -> int | None:
    given = {name: value for name in names if (value := fields.integer(name, 1, INT32)) is not None}
    if len(set(given.values())) > 1:
        raise InvalidRequest(f"{' and '.join(given)} contradict each other: send one of them", param=names[-1])
    return next(iter(given.values()), None)


def _chat_logprobs(fields: Fields) -> int | None:
    wanted = fields.boolean("logprobs")
    top = fields.integer("top_logprobs", 0, 20)
    if top and not wanted:
        raise InvalidRequest('"top_logprobs" needs "logprobs": true', param="top_logprobs")
    return (top or 0) if wanted else None


def _stop(fields: Fields) -> tuple[str, ...]:
    value = fields.take("stop")
    stops = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise wrong("stop", "a string or an array of strings", value)
    if len(stops) > 4:
        raise InvalidRequest(f'"stop" takes at most 4 strings, not {len(stops)}', param="stop")
    if not all(0 < len(stop) <= MAX_STOP_CHARACTERS for stop in stops):
        raise InvalidRequest(f'each string of "stop" has 1 to {MAX_STOP_CHARACTERS} characters', param="stop")
    return tuple(stops)


def _stop_token_ids(fields: Fields) -> frozenset[int]:
    value = fields.array("stop_token_ids")
    if value and not _is_ids(value):
        raise wrong("stop_token_ids", "an array of token ids", value)
    return frozenset(value or ())


def _repetition_penalty(fields: Fields) -> float | None:
    value = fields.number("repetition_penalty", 0, 10)
    if value == 0:
        raise InvalidRequest('"repetition_penalty" must be above 0; 1 means none', param="repetition_penalty")
    return value


def _logit_bias(fields: Fields) -> dict[int, float]:
    """{"token id": -100 to 100}; JSON has no other keys than strings."""
    value = fields.take("logit_bias")
    if value is None:
        return {}
    bias = Fields(value, "logit_bias.")
    if len(value) > MAX_BIASES or not all(token.isascii() and token.isdigit() and len(token) < 10 for token in value):
        raise InvalidRequest(
            f'"logit_bias" maps at most {MAX_BIASES} token ids, written as strings, to numbers', param="logit_bias"
        )
    return {int(token): amount for token in value if (amount := bias.number(token, -100, 100)) is not None}


def _prompts(value: Any) -> list[str | tuple[int, ...]]:
    """A string, token ids, or an array of strings or of arrays of token ids."""
    if isinstance(value, str) or _is_ids(value):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(prompt, str) or _is_ids(prompt) for prompt in value):
        raise wrong("prompt", "a string, an array of token ids, or an array of either", value)
    if not value or not all(value):
        raise InvalidRequest('"prompt" is empty: write at least one character', param="prompt")
    return [prompt if isinstance(prompt, str) else tuple(prompt) for prompt in value]


def _is_ids(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one <= INT32 for one in value)
    )
