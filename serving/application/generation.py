"""What chat and completion share: limits, admission, and following the answers until the last one is finished."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from serving.application.choice import Choice, OutputRules
from serving.application.deltas import Delta, Usage
from serving.application.ports import ServedModel, TokenStream
from serving.domain.errors import ContextLengthExceeded, InvalidRequest
from serving.domain.grammar import Constraint
from serving.domain.request import Prompt, Request, SamplingParams

FAN_IN_SECONDS = 0.02  # how long one of several mailboxes may keep the others waiting
SEED_SPACE = 2**63


@dataclass(frozen=True, slots=True)
class Options:
    """What a client may say about a request; None means the model's default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    max_tokens_param: str = "max_tokens"
    """What the client calls it."""
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    """The model's own stop tokens are tokens like any other."""
    seed: int | None = None
    logprobs: int | None = None
    n: int = 1
    priority: int = 0
    """Smaller is sooner, under a policy that looks at it."""
    grammar: Constraint | None = None
    """What the answer must look like."""
    ahead: int | None = None
    """So many tokens, and no more, are computed before whoever reads the answer has taken them; None: as fast as it goes."""


@dataclass(slots=True)
class Generation:
    """Admitted requests, one per choice. Iterate `updates`, or `cancel`; `usage` is complete at the end."""

    id: str
    model: ServedModel
    created: int
    prompts: list[tuple[int, ...]]
    choices: list[Choice] = field(default_factory=list)

    def updates(self, tick: float) -> Iterator[list[Delta]]:
        """Lists of deltas in order; an empty list after `tick` seconds without any, so that the caller can look around.

        Leaving the loop early, in whatever way, gives the request up.
        """
        try:
            while live := [choice for choice in self.choices if not choice.finished]:
                deltas = self._receive(live, tick)
                if not deltas and not self.model.engine.healthy():
                    deltas = [choice.fail("the engine has stopped working") for choice in live]
                yield deltas
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Give up every choice that is still running. Safe at any time, more than once."""
        for choice in self.choices:
            if not choice.finished:
                choice.stream.cancel()

    @property
    def usage(self) -> Usage:
        """A prompt counts once, however many choices it has."""
        return Usage(
            prompt_tokens=sum(len(prompt) for prompt in self.prompts),
            completion_tokens=sum(choice.completion_tokens for choice in self.choices),
            cached_tokens=sum(choice.cached_tokens for choice in self.choices[:: self._choices_per_prompt]),
            thought_tokens=sum(choice.thought_tokens for choice in self.choices),
        )

    @property
    def _choices_per_prompt(self) -> int:
        return max(1, len(self.choices) // len(self.prompts))

    def _receive(self, live: list[Choice], tick: float) -> list[Delta]:
        first, *others = live
        deltas = first.receive(min(tick, FAN_IN_SECONDS) if others else tick)
        for choice in others:
            deltas += choice.receive(0)
        return deltas


def admit(
    kind: str,
    model: ServedModel,
    prompts: Sequence[Prompt],
    options: Options,
    *,
    tenant: str,
    default_max_tokens: int,
    prompt_param: str,
    parse_tools: bool = False,
    parse_thoughts: bool = False,
    thinking: bool = False,
    score_prompts: bool = False,
    sounds: range = range(0),
) -> Generation:
    """Check the limits and queue one request per prompt and choice: all of them, or none.

    Tokens among `sounds` are handed on as sound. Choices are numbered prompt by prompt. With `score_prompts`, `options.logprobs` are of the prompts, too. Raises
    `ContextLengthExceeded`, and what `EnginePort.submit` raises.
    """
    samplings = [sampling_params(model, len(prompt.tokens), options, default_max_tokens, prompt_param) for prompt in prompts]
    rules = OutputRules(options.stop, options.min_tokens, parse_tools, parse_thoughts, thinking, options.logprobs is not None, sounds)
    if score_prompts:
        samplings = [replace(sampling, prompt_logprobs=options.logprobs) for sampling in samplings]
    generation = Generation(f"{kind}-{uuid.uuid4().hex}", model, int(time.time()), [prompt.tokens for prompt in prompts])
    try:
        for prompt, sampling in zip(prompts, samplings, strict=True):
            own = replace(rules, scored_prompt=prompt.tokens) if score_prompts else rules
            for copy in range(options.n):
                stream = _submit(generation, prompt, _reseed(sampling, copy), tenant, options)
                generation.choices.append(Choice(len(generation.choices), stream, model.tokenizer, own))
    except BaseException:
        generation.cancel()
        raise
    return generation


def sampling_params(
    model: ServedModel, prompt_tokens: int, options: Options, default_max_tokens: int, prompt_param: str
) -> SamplingParams:
    """The client's wishes over the model's defaults. Raises `ContextLengthExceeded` with the numbers."""
    if options.grammar is not None and options.ignore_eos:
        raise InvalidRequest('"ignore_eos" goes on for ever, and a grammar has an end: send one of them', param="ignore_eos")
    capacity = model.capacity
    room = capacity - prompt_tokens
    if room < 1:
        raise ContextLengthExceeded(
            f"the prompt has {prompt_tokens} tokens, and {model.name} takes at most {capacity} tokens of prompt and "
            "answer together: shorten the prompt",
            param=prompt_param,
        )
    if options.max_tokens is not None and options.max_tokens > room:
        raise ContextLengthExceeded(
            f"{options.max_tokens_param} is {options.max_tokens}, but after {prompt_tokens} tokens of prompt {model.name} has room "
            f"for {room} of its {capacity} tokens: lower {options.max_tokens_param} or shorten the prompt",
            param=options.max_tokens_param,
        )
    defaults = model.default_sampling
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens")
    chosen = {name: getattr(options, name) for name in names}
    known = {name: defaults.get(name) if value is None else value for name, value in chosen.items()}
    if known["max_tokens"] is None:
        known["max_tokens"] = default_max_tokens
    known["max_tokens"] = min(known["max_tokens"], room)
    return SamplingParams(
        **{key: value for key, value in known.items() if value is not None},
        min_tokens=min(options.min_tokens, known["max_tokens"]),
        presence_penalty=options.presence_penalty,
        frequency_penalty=options.frequency_penalty,
        logit_bias=options.logit_bias,
        stop_token_ids=options.stop_token_ids | (frozenset() if options.ignore_eos else model.tokenizer.stop_token_ids),
        seed=options.seed,
        logprobs=options.logprobs,
        grammar=options.grammar,
    )


def _reseed(sampling: SamplingParams, copy: int) -> SamplingParams:
    """Each choice of a seeded request draws its own numbers, the first one the same as with n = 1."""
    if sampling.seed is None or copy == 0:
        return sampling
    return replace(sampling, seed=(sampling.seed + copy) % SEED_SPACE)


def _submit(
    generation: Generation, prompt: Prompt, sampling: SamplingParams, tenant: str, options: Options
) -> TokenStream:
    number = len(generation.choices)
    return generation.model.engine.submit(
        Request(
            id=f"{generation.id}-{number}",
            prompt_tokens=prompt.tokens,
            sampling=sampling,
            arrival=time.monotonic(),
            tenant=tenant,
            priority=options.priority,
            adapter=generation.model.adapter,
            media=prompt.media,
            positions=prompt.positions,
            ahead=options.ahead,
        )
    )
