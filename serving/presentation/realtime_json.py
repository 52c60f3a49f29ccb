"""What happens in a live conversation, as the server events of the OpenAI Realtime protocol."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable
from typing import Any

from serving.application.live import events
from serving.application.live.settings import LiveSettings
from serving.domain.dialogue import Item, Part
from serving.domain.errors import ServingError
from serving.presentation.schemas.words import shorten

Json = dict[str, Any]


def event_id() -> str:
    return f"event_{uuid.uuid4().hex[:21]}"


def server_event(kind: str, **fields: Any) -> Json:
    return {"type": kind, "event_id": event_id(), **fields}


def to_json(event: events.LiveEvent) -> Json:
    """One event of the application as one of the protocol."""
    return WRITERS[type(event)](event)


def session_json(settings: LiveSettings, session_id: str, model: str, turn_detection: Json | None, expires_at: int) -> Json:
    """A session as it is now."""
    answers = settings.answers
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": session_id,
        "model": model,
        "expires_at": expires_at,
        "output_modalities": [answers.modality],
        "instructions": answers.instructions,
        "tools": [{"type": "function", **tool["function"]} for tool in answers.tools],
        "tool_choice": _tool_choice(answers.forced) if answers.may_call else "none",
        "max_output_tokens": answers.max_tokens or "inf",
        "audio": {
            "input": {
                "format": format_json(settings.input_format.name),
                "transcription": {} if settings.transcripts else None,
                "noise_reduction": None,
                "turn_detection": turn_detection,
            },
            "output": {"format": format_json(answers.format.name), "voice": answers.voice, "speed": answers.speed},
        },
    }


def _tool_choice(forced: str | None) -> Any:
    if forced is None:
        return "auto"
    return {"type": "function", "name": forced} if forced else "required"


def format_json(name: str) -> Json:
    return {"type": name, "rate": 24000} if name == "audio/pcm" else {"type": name}


def item_json(item: Item) -> Json:
    """An item. Sound is not kept, so there is none in it."""
    base = {"id": item.id, "object": "realtime.item", "type": item.kind, "status": item.status}
    if item.kind == "function_call":
        return {**base, "name": item.name, "call_id": item.call_id, "arguments": item.arguments}
    if item.kind == "function_call_output":
        return {**base, "call_id": item.call_id, "output": item.output}
    return {**base, "role": item.role, "content": [_content(part) for part in item.parts]}


def _content(part: Part) -> Json:
    if part.kind in ("input_text", "output_text"):
        return {"type": part.kind, "text": part.text}
    return {"type": part.kind, "transcript": part.text if part.heard_ms is None else part.heard}


def _part(part: Part) -> Json:
    if part.kind == "output_text":
        return {"type": "text", "text": part.text}
    return {"type": "audio", "transcript": part.text}


def answer_json(answer: events.AnswerState) -> Json:
    usage = None
    if answer.usage is not None:
        cached = answer.usage.cached_tokens
        usage = {
            "total_tokens": answer.usage.total_tokens,
            "input_tokens": answer.usage.prompt_tokens,
            "output_tokens": answer.usage.completion_tokens,
            "input_token_details": {"text_tokens": answer.usage.prompt_tokens, "audio_tokens": 0, "cached_tokens": cached},
            "output_token_details": {"text_tokens": answer.usage.completion_tokens, "audio_tokens": 0},
        }
    return {
        "object": "realtime.response",
        "id": answer.id,
        "status": answer.status,
        "status_details": _details(answer),
        "output": [item_json(item) for item in answer.outputs],
        "output_modalities": [answer.modality],
        "audio": {"output": {"format": format_json(answer.format), "voice": answer.voice}},
        "conversation_id": "conv" if answer.in_dialogue else None,
        "max_output_tokens": answer.max_tokens or "inf",
        "metadata": answer.metadata,
        "usage": usage,
    }


def _details(answer: events.AnswerState) -> Json | None:
    if answer.status == "in_progress":
        return None
    details: Json = {"type": answer.status}
    if answer.reason:
        details["reason"] = answer.reason
    if answer.error is not None:
        details["error"] = {"type": answer.error.type, "code": answer.error.code, "message": answer.error.message}
    return details


def error_event(error: ServingError, caused_by: str | None = None) -> Json:
    """`caused_by`: what the client called the event that went wrong."""
    told = {"type": error.type, "code": error.code, "message": error.message, "param": error.param}
    return server_event("error", error={**told, "event_id": caused_by and shorten(caused_by, 512)})


def _item_added(event: events.ItemAdded) -> Json:
    kind = "conversation.item.done" if event.done else "conversation.item.added"
    return server_event(kind, item=item_json(event.item), previous_item_id=event.previous)


def _place(event: Any, *, content: bool = True) -> Json:
    place = {"response_id": event.answer_id, "output_index": event.index, "item_id": event.item_id}
    return {**place, "content_index": 0} if content else place


def _part_event(kind: str) -> Callable[[Any], Json]:
    return lambda event: server_event(kind, **_place(event), part=_part(event.part))


def _output_event(kind: str) -> Callable[[Any], Json]:
    return lambda event: server_event(
        kind, response_id=event.answer_id, output_index=event.index, item=item_json(event.item)
    )


def _said(event: events.Said) -> Json:
    kind = "response.output_audio_transcript.delta" if event.aloud else "response.output_text.delta"
    return server_event(kind, **_place(event), delta=event.text)


def closing(event: events.PartClosed) -> list[Json]:
    """What comes before a part is done."""
    place = _place(event)
    if event.part.kind == "output_text":
        return [server_event("response.output_text.done", **place, text=event.part.text)]
    return [
        server_event("response.output_audio.done", **place),
        server_event("response.output_audio_transcript.done", **place, transcript=event.part.text),
    ]


def calling(event: events.Called) -> list[Json]:
    """A call's arguments, in one piece: they are known when they satisfy their schema."""
    item = event.item
    place = {
        "response_id": event.answer_id, "output_index": event.index, "item_id": item.id, "call_id": item.call_id,
    }
    return [
        server_event("response.function_call_arguments.delta", **place, delta=item.arguments),
        server_event("response.function_call_arguments.done", **place, name=item.name, arguments=item.arguments),
    ]


WRITERS: dict[type, Callable[[Any], Json]] = {
    events.TurnStarted: lambda one: server_event(
        "input_audio_buffer.speech_started", item_id=one.item_id, audio_start_ms=one.at_ms
    ),
    events.TurnStopped: lambda one: server_event(
        "input_audio_buffer.speech_stopped", item_id=one.item_id, audio_end_ms=one.at_ms
    ),
    events.Committed: lambda one: server_event(
        "input_audio_buffer.committed", item_id=one.item_id, previous_item_id=one.previous
    ),
    events.Cleared: lambda one: server_event("input_audio_buffer.cleared"),
    events.ItemAdded: _item_added,
    events.ItemDeleted: lambda one: server_event("conversation.item.deleted", item_id=one.item_id),
    events.ItemShown: lambda one: server_event("conversation.item.retrieved", item=item_json(one.item)),
    events.ItemTruncated: lambda one: server_event(
        "conversation.item.truncated", item_id=one.item_id, content_index=one.part, audio_end_ms=one.heard_ms
    ),
    events.Understood: lambda one: server_event(
        "conversation.item.input_audio_transcription.delta", item_id=one.item_id, content_index=0, delta=one.text
    ),
    events.Transcribed: lambda one: server_event(
        "conversation.item.input_audio_transcription.completed", item_id=one.item_id, content_index=0,
        transcript=one.text, usage={"type": "duration", "seconds": round(one.seconds, 3)},
    ),
    events.NotTranscribed: lambda one: server_event(
        "conversation.item.input_audio_transcription.failed", item_id=one.item_id, content_index=0,
        error={"type": one.error.type, "code": one.error.code, "message": one.error.message},
    ),
    events.AnswerBegan: lambda one: server_event("response.created", response=answer_json(one.answer)),
    events.AnswerEnded: lambda one: server_event("response.done", response=answer_json(one.answer)),
    events.OutputOpened: _output_event("response.output_item.added"),
    events.OutputClosed: _output_event("response.output_item.done"),
    events.PartOpened: _part_event("response.content_part.added"),
    events.PartClosed: _part_event("response.content_part.done"),
    events.Said: _said,
    events.Sounded: lambda one: server_event(
        "response.output_audio.delta", **_place(one), delta=base64.b64encode(one.sound).decode()
    ),
    events.Problem: lambda one: error_event(one.error, one.event_id),
}
BEFORE: dict[type, Callable[[Any], list[Json]]] = {events.PartClosed: closing, events.Called: calling}
"""Events that are several of the protocol's; those of a call are all that there is to it."""
