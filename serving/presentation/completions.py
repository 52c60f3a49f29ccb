"""POST /v1/completions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from flask import Response, jsonify, request

from serving.application.deltas import ChoiceFinished, Delta, PromptDelta, ScoredToken, TextDelta
from serving.application.generation import Generation
from serving.presentation.body import read_json
from serving.presentation.peer import Peer
from serving.presentation.schemas.completion import CompletionRequest
from serving.presentation.schemas.translate import read
from serving.presentation.state import ServerState
from serving.presentation.streaming import Chunks, collect, envelope, event_stream, stream_response, usage_json

KIND = "text_completion"


def completions(state: ServerState) -> Response:
    """Admission happens before there is a response, so a refusal still has its own status."""
    tenant = state.tenant(request)
    asked = read(CompletionRequest, read_json(request))
    command = asked.command(tenant)
    generation = state.start(command.start, asked.model)
    peer, meter = Peer(request.environ), state.meter(generation)
    echoes = [echo for echo in command.echoes(generation.model) for _ in range(command.options.n)]
    if not asked.stream:
        whole = answer(generation, echoes, collect(generation, peer, meter, state.config))
        return jsonify(whole if asked.metadata is None else {**whole, "metadata": asked.metadata})
    chunks = Chunks(generation, KIND, include_usage=asked.include_usage)
    opening = [_choice(index, echo) for index, echo in enumerate(echoes) if echo]
    return stream_response(
        generation,
        meter,
        event_stream(generation, peer, meter, state.config, chunks, opening, partial(chunk_choices, echoes)),
    )


def chunk_choices(echoes: Sequence[str], delta: Delta) -> Sequence[dict[str, Any]]:
    """A delta as the choices of chunks; each choice begins with its echo, which is sent already."""
    if isinstance(delta, PromptDelta):
        return [_choice(delta.choice, "", logprobs=logprobs_json(delta.logprobs))]
    if isinstance(delta, TextDelta):
        return [_choice(delta.choice, delta.text, logprobs=logprobs_json(behind(echoes[delta.choice], delta.logprobs)))]
    if isinstance(delta, ChoiceFinished):
        return [_choice(delta.choice, "", finish_reason=delta.reason)]
    return []


def answer(generation: Generation, echoes: Sequence[str], deltas: Sequence[Delta]) -> dict[str, Any]:
    """The whole answer."""
    choices = []
    for index, echo in enumerate(echoes):
        own = [delta for delta in deltas if delta.choice == index]
        texts = [delta for delta in own if isinstance(delta, TextDelta)]
        prompt = [score for delta in own if isinstance(delta, PromptDelta) for score in delta.logprobs]
        scores = [*prompt, *(score for delta in texts for score in behind(echo, delta.logprobs))]
        reason = next(delta.reason for delta in own if isinstance(delta, ChoiceFinished))
        text = echo + "".join(delta.text for delta in texts)
        choices.append(_choice(index, text, logprobs=logprobs_json(scores), finish_reason=reason))
    return {**envelope(generation, KIND), "choices": choices, "usage": usage_json(generation.usage)}


def behind(echo: str, scores: Sequence[ScoredToken]) -> list[ScoredToken]:
    """Scores of an answer that follows an echo."""
    return [replace(score, offset=score.offset + len(echo)) for score in scores]


def logprobs_json(scores: Sequence[ScoredToken]) -> dict[str, Any] | None:
    """Log-probabilities in the shape of completions; offsets count characters, those of an echo included."""
    if not scores:
        return None
    return {
        "tokens": [score.text for score in scores],
        "token_logprobs": [score.logprob for score in scores],
        "top_logprobs": [_best(score) for score in scores] if any(score.top for score in scores) else None,
        "text_offset": [score.offset for score in scores],
    }


def _best(score: ScoredToken) -> dict[str, float] | None:
    if score.logprob is None:
        return None
    best: dict[str, float] = {}
    for text, logprob in score.top:
        best.setdefault(text, logprob)  # parts of characters look alike; the likeliest stays
    return best


def _choice(index: int, text: str, **fields: Any) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": None, **fields}
