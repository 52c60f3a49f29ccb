"""The fields that say how an answer is sampled and how it travels; chat and text completions share them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from serving.application.generation import Options
from serving.presentation.schemas.base import (
    INT32,
    INT64,
    Count,
    Metadata,
    TokenId,
    Unsupported,
    Wire,
    few,
    refusal,
    whole,
)
from serving.presentation.schemas.structured import StructuredFields

MAX_CHOICES = 32
"""Prompts times n in one HTTP request."""
MAX_BIASES = 1024


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


StopString = Annotated[str, Field(min_length=1, max_length=256)]
Stop = Annotated[
    list[StopString], Field(max_length=4), BeforeValidator(_listed, json_schema_input_type=str | list[StopString])
]
Biases = Annotated[
    dict[
        Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
    ],
    Field(max_length=MAX_BIASES),
    few(MAX_BIASES),
]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
TopP = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class StreamOptions(Wire):
    """What a stream contains beside the answer."""

    include_usage: bool = False
    """One more chunk at the end, with the tokens paid for."""
    include_obfuscation: Unsupported[Literal[False]] = None


class SamplingFields(StructuredFields):
    """Null, like leaving a field out, means the model's own default."""

    model: str | None = None
    """A name, version or alias of `GET /v1/models`; without it the first one answers."""
    stream: bool = False
    """Send the answer as server-sent events while it is written."""
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    """0 is greedy: always the likeliest token."""
    top_p: TopP | None = None
    """Sample among the likeliest tokens that have this probability together."""
    top_k: whole(-1, INT32) | None = None
    """Sample among so many of the likeliest tokens; 0 and -1: among all. An extension."""
    min_p: Share | None = None
    """Least probability of a token, as a share of the likeliest one's. An extension."""
    repetition_penalty: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] | None = None
    """Above 1, tokens of prompt and answer become unlikelier. An extension."""
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Biases | None = None
    """Token ids, written as strings, to what is added to their logits."""
    max_tokens: Count | None = None
    min_tokens: whole(0, INT32) | None = None
    """The answer does not end before so many tokens. An extension."""
    stop: Stop | None = None
    """The answer ends before the first of these strings."""
    stop_token_ids: Annotated[list[TokenId], Field(max_length=MAX_BIASES)] | None = None
    """The answer ends before the first of these tokens. An extension."""
    ignore_eos: bool = False
    """The model's own stop tokens are tokens like any other. An extension."""
    seed: whole(-INT64, INT64) | None = None
    """The same request with the same seed has the same answer."""
    n: whole(1, MAX_CHOICES) | None = None
    """How many answers."""
    priority: whole(-INT32, INT32) | None = None
    """Smaller is sooner, under a policy that looks at it. An extension."""
    user: str | None = None
    """A label that changes nothing."""
    safety_identifier: str | None = None
    """A label that changes nothing."""
    prompt_cache_key: str | None = None
    """A label that changes nothing: who shares cached prompts is decided by the API key."""
    metadata: Metadata | None = None
    """Comes back in the answer; nothing is stored."""
    store: Unsupported[Literal[False]] = None
    service_tier: Unsupported[Literal["auto", "default"]] = None

    @model_validator(mode="after")
    def _options_of_a_stream(self) -> SamplingFields:
        if self.stream_options is not None and not self.stream:
            raise refusal('{param} needs "stream": true', "stream_options")
        return self

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def options(self, *, max_tokens: int | None, max_tokens_param: str = "max_tokens", logprobs: int | None) -> Options:
        """For the use cases."""
        return Options(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=0 if self.top_k == -1 else self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            logit_bias={int(token): amount for token, amount in (self.logit_bias or {}).items()},
            max_tokens=max_tokens,
            max_tokens_param=max_tokens_param,
            min_tokens=self.min_tokens or 0,
            stop=tuple(self.stop or ()),
            stop_token_ids=frozenset(self.stop_token_ids or ()),
            ignore_eos=self.ignore_eos,
            seed=self.seed,
            logprobs=logprobs,
            n=self.n or 1,
            priority=self.priority or 0,
            grammar=self.grammar(),
        )
