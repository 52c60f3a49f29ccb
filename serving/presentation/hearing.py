"""From what a conversation lets hear to texts, for models that read, and to the tokens of those that hear."""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from typing import Any, TypeVar

from flask import request

from serving.application.speech import Audio, NativeSpeech, SpeechChunk
from serving.application.voice import Voice
from serving.domain.errors import InvalidRequest, MediaTooLarge, SpeechMissing
from serving.presentation.peer import Peer
from serving.presentation.schemas.audio import InputAudioPart
from serving.presentation.schemas.base import Wire
from serving.presentation.schemas.messages import AssistantMessage, TextPart
from serving.presentation.state import ServerState
from serving.presentation.streaming import ClientGone

MOST_SOUNDS = 8
"""In one request."""
Conversation = TypeVar("Conversation", bound=Wire)


def voice_of(state: ServerState) -> Voice:
    """Raises `SpeechMissing` and `Draining`."""
    state.model(None)
    if state.voice is None:
        raise SpeechMissing("this server was started without anything that hears or speaks")
    return state.voice


def hear(state: ServerState, asked: Conversation) -> tuple[Conversation, NativeSpeech | None]:
    """The same with a text for each sound, and for each answer that was spoken; and the model that heard it, if one did itself.

    For a model that hears the text is the sound, in its own tokens; for others it is what was said. Raises `InvalidRequest`
    and its kinds, naming the field; `SpeechMissing`, and `QueueFull` while too many others are heard.
    """
    messages = asked.messages or []
    places = [place for at, message in enumerate(messages) for place in _sounds_at(at, message)]
    if len(places) > MOST_SOUNDS:
        raise MediaTooLarge(f"the request has {len(places)} sounds: at most {MOST_SOUNDS} are taken", param=places[MOST_SOUNDS])
    if not places and not any(isinstance(one, AssistantMessage) and one.audio for one in messages):
        return asked, None
    speech = state.model(asked.model).speech if places else None
    read = [_read(state, at, message, speech) for at, message in enumerate(messages)]
    return asked.model_copy(update={"messages": read}), speech


def _sounds_at(at: int, message: Wire) -> list[str]:
    content = message.content if isinstance(message.content, list) else []
    return [f"messages[{at}].content[{place}]" for place, part in enumerate(content) if isinstance(part, InputAudioPart)]


def _read(state: ServerState, at: int, message: Wire, speech: NativeSpeech | None) -> Wire:
    if isinstance(message, AssistantMessage) and message.audio:
        said = state.spoken.get(state.tenant(request), message.audio.id)
        if said is None:
            field = f"messages[{at}].audio.id"
            raise InvalidRequest(f'"{field}" is not known here, or no longer: send what it said as "content"', param=field)
        return message.model_copy(update={"content": said, "audio": None})
    if not _sounds_at(at, message):
        return message
    parts = [
        _heard(state, part, speech, f"messages[{at}].content[{place}].input_audio.data") if isinstance(part, InputAudioPart) else part
        for place, part in enumerate(message.content)
    ]
    return message.model_copy(update={"content": parts})


def _heard(state: ServerState, part: InputAudioPart, speech: NativeSpeech | None, field: str) -> TextPart:
    voice = voice_of(state)
    try:
        data = binascii.a2b_base64(part.input_audio.data, strict_mode=True)
    except ValueError:
        raise InvalidRequest(f'"{field}" is not base64', param=field) from None
    audio = voice.open(data, field)
    text = _words(state, voice, audio) if speech is None else _tokens(state, speech, audio, field)
    if not text:
        raise InvalidRequest(f'nobody speaks in "{field}"', param=field)
    return TextPart(type="text", text=text)


def _words(state: ServerState, voice: Voice, audio: Audio) -> str:
    stretches = attended(metered(state, "heard", voice.hear(audio), audio.seconds), Peer(request.environ))
    return " ".join(segment.text for found in stretches for segment in found)


def _tokens(state: ServerState, speech: NativeSpeech, audio: Audio, field: str) -> str:
    state.voice_metrics.begin("heard", audio.seconds)
    try:
        with state.voice_metrics.timed("heard"):
            return speech.write(audio)
    except InvalidRequest as error:
        raise type(error)(f'"{field}" {error.message}', param=field) from None


def metered(state: ServerState, kind: str, steps: Iterator[Any], seconds: float = 0.0) -> Iterator[Any]:
    """Counts the seconds of sound, of speech as it comes, and the time that it takes."""
    state.voice_metrics.begin(kind, seconds)
    while True:
        with state.voice_metrics.timed(kind):
            step = next(steps, None)
        if step is None:
            return
        if isinstance(step, SpeechChunk):
            state.voice_metrics.add(kind, step.audio.seconds)
        yield step


def attended(steps: Iterator[Any], peer: Peer) -> Iterator[Any]:
    """Each step is only taken while the client is there. Raises `ClientGone`."""
    for step in steps:
        yield step
        if peer.gone():
            raise ClientGone
