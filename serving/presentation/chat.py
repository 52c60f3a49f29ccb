"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Response, jsonify, request

from serving.application.deltas import ChoiceFinished, Delta, ScoredToken, TextDelta, ThoughtDelta, ToolCallDelta
from serving.application.generation import Generation
from serving.presentation.body import read_json
from serving.presentation.hearing import hear
from serving.presentation.native_chat import NativeSpeaker, native_answer, native_stream
from serving.presentation.peer import Peer
from serving.presentation.schemas.chat import ChatCompletionRequest
from serving.presentation.schemas.translate import read
from serving.presentation.seeing import large_body, look
from serving.presentation.spoken_chat import Speaker, spoken_answer, spoken_stream
from serving.presentation.state import ServerState
from serving.presentation.streaming import Chunks, collect, envelope, event_stream, stream_response, usage_json


def chat_completions(state: ServerState) -> Response:
    """Admission happens before there is a response, so a refusal still has its own status."""
    tenant = state.tenant(request)
    with large_body(state, request):
        asked, heard_by = hear(state, read(ChatCompletionRequest, read_json(request)))
        native = NativeSpeaker(state, asked.audio, tenant, heard_by) if asked.speaks and heard_by else None
        speaker = Speaker(state, asked.audio, tenant) if asked.speaks and native is None else None
        command = asked.command(tenant, look(state, asked.model, asked.sources()), heard_by)
        asked = asked.without_messages()  # pictures are large, and answers may take long
    generation = state.start(command.start, asked.model)
    del command
    peer, meter = Peer(request.environ), state.meter(generation)
    if not asked.stream:
        deltas = collect(generation, peer, meter, state.config)
        whole = answer(generation, deltas)
        if native is not None:
            whole = native_answer(whole, native, deltas)
        if speaker is not None:
            whole = spoken_answer(whole, speaker, peer)
        return jsonify(whole if asked.metadata is None else {**whole, "metadata": asked.metadata})
    chunks = Chunks(generation, "chat.completion.chunk", include_usage=asked.include_usage)
    if native is not None:
        return stream_response(generation, meter, native_stream(generation, peer, meter, state, chunks, native, chunk_choices))
    if speaker is not None:
        return stream_response(generation, meter, spoken_stream(generation, peer, meter, state, chunks, speaker, chunk_choices))
    opening = [_choice(one.index, {"role": "assistant", "content": ""}) for one in generation.choices]
    return stream_response(
        generation, meter, event_stream(generation, peer, meter, state.config, chunks, opening, chunk_choices)
    )


def chunk_choices(delta: Delta) -> Sequence[dict[str, Any]]:
    """A delta as the choices of chunks: a tool call is announced with id and name, then brings its arguments."""
    if isinstance(delta, TextDelta):
        return [_choice(delta.choice, {"content": delta.text}, logprobs=logprobs_json(delta.logprobs))]
    if isinstance(delta, ThoughtDelta):
        return [_choice(delta.choice, {"reasoning_content": delta.text}, logprobs=logprobs_json(delta.logprobs))]
    if isinstance(delta, ChoiceFinished):
        return [_choice(delta.choice, {}, finish_reason=delta.reason)]
    opening = {"index": delta.index, **tool_call_json(delta)}
    opening["function"] = {"name": delta.name, "arguments": ""}
    arguments = {"index": delta.index, "function": {"arguments": delta.arguments}}
    return [_choice(delta.choice, {"tool_calls": [part]}) for part in (opening, arguments)]


def answer(generation: Generation, deltas: Sequence[Delta]) -> dict[str, Any]:
    """The whole answer."""
    choices = [
        message_choice(choice.index, [delta for delta in deltas if delta.choice == choice.index])
        for choice in generation.choices
    ]
    return {**envelope(generation, "chat.completion"), "choices": choices, "usage": usage_json(generation.usage)}


def message_choice(index: int, deltas: Sequence[Delta]) -> dict[str, Any]:
    """One choice of an answer, from its deltas."""
    thoughts = [delta for delta in deltas if isinstance(delta, ThoughtDelta)]
    texts = [delta for delta in deltas if isinstance(delta, TextDelta)]
    calls = [tool_call_json(delta) for delta in deltas if isinstance(delta, ToolCallDelta)]
    text = "".join(delta.text for delta in texts)
    message: dict[str, Any] = {"role": "assistant", "content": None if calls and not text else text}
    if thoughts:
        message["reasoning_content"] = "".join(delta.text for delta in thoughts)
    if calls:
        message["tool_calls"] = calls
    scores = tuple(score for delta in (*thoughts, *texts) for score in delta.logprobs)
    reason = next(delta.reason for delta in deltas if isinstance(delta, ChoiceFinished))
    return {"index": index, "message": message, "logprobs": logprobs_json(scores), "finish_reason": reason}


def tool_call_json(call: ToolCallDelta) -> dict[str, Any]:
    """A complete tool call."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def logprobs_json(scores: Sequence[ScoredToken]) -> dict[str, Any] | None:
    """Log-probabilities in the shape of chat completions."""
    if not scores:
        return None
    return {
        "content": [
            {
                **_scored(score.text, score.logprob),
                "top_logprobs": [_scored(text, logprob) for text, logprob in score.top],
            }
            for score in scores
        ]
    }


def _scored(text: str, logprob: float) -> dict[str, Any]:
    # A token that is a part of a character decodes to U+FFFD: then its bytes are not known.
    return {"token": text, "logprob": logprob, "bytes": None if "\ufffd" in text else list(text.encode())}


def _choice(index: int, delta: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None, **fields}
