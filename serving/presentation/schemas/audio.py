"""Sounds in, texts out, and the other way round: /v1/audio and the audio of chats."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from serving.presentation.schemas.base import Name, Unsupported, Wire, refusal

TranscriptFormat = Literal["json", "text", "srt", "vtt", "verbose_json"]
SoundFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
MOST_CHARACTERS = 4096


class VoiceId(Wire):
    id: Name


VoiceName = Annotated[Name | VoiceId, Field()]
"""A voice of the engine, or one of OpenAI's names, which stands for one; or an object with its `id`."""


def voice_name(voice: Name | VoiceId | None) -> str | None:
    """Whichever way it was written."""
    return voice.id if isinstance(voice, VoiceId) else voice


class SpeechRequest(Wire):
    """A text to speak."""

    model: Name | None = None
    """The engine's name, or one of OpenAI's for such engines."""
    input: Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)]
    voice: VoiceName | None = None
    response_format: SoundFormat = "mp3"
    """"pcm" is 24 kHz, 16 bits, one channel."""
    speed: Annotated[float, Field(ge=0.25, le=4)] = 1.0
    stream_format: Literal["audio", "sse"] = "audio"
    """Either way each sentence leaves as soon as it was spoken: as the bytes of a file, or as events."""
    instructions: Unsupported[None] = None


def _flag(value: Any) -> Any:
    return {"true": True, "false": False, "1": True, "0": False}.get(value.lower(), value) if isinstance(value, str) else value


def _figure(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _nothing(value: Any) -> Any:
    """Forms send an empty field for one that is left out."""
    return None if value == "" else value


Flag = Annotated[bool, BeforeValidator(_flag)]
Zero = Annotated[float, Field(ge=0, le=0), BeforeValidator(_figure)]
Prompt = Annotated[Unsupported[None], BeforeValidator(_nothing)]


class TranscriptionRequest(Wire):
    """The fields of the form beside its file."""

    model: Name | None = None
    """The engine's name, or one of OpenAI's for such engines."""
    language: Annotated[str, Field(min_length=2, max_length=10)] | None = None
    """As in ISO 639-1."""
    response_format: TranscriptFormat = "json"
    timestamp_granularities: Annotated[list[Literal["word", "segment"]], Field(min_length=1, max_length=2)] | None = None
    """For verbose_json; "word" where the engine knows the times of words."""
    stream: Flag = False
    """Events, a stretch of speech after the other."""
    chunking_strategy: Unsupported[Literal["auto"]] = None
    temperature: Unsupported[Zero] = None
    prompt: Prompt = None
    include: Unsupported[Annotated[list[Any], Field(max_length=0)]] = None

    @model_validator(mode="after")
    def _agrees(self) -> TranscriptionRequest:
        if self.timestamp_granularities and self.response_format != "verbose_json":
            raise refusal('{param} needs "response_format": "verbose_json"', "timestamp_granularities")
        if self.stream and self.response_format not in ("json", "text"):
            raise refusal('{param} does not go together with "stream": true', "response_format")
        return self


class SoundData(Wire):
    data: Annotated[str, Field(min_length=1)]
    """base64."""
    format: Literal["wav", "mp3", "flac", "ogg", "opus", "m4a", "mp4", "webm", "aac"]
    """What it is called; what it is shows its beginning."""


class InputAudioPart(Wire):
    """Something said. A model that does not hear reads what was said."""

    type: Literal["input_audio"]
    input_audio: SoundData


class AudioOutput(Wire):
    """How an answer sounds."""

    voice: VoiceName
    format: Literal["wav", "mp3", "flac", "opus", "aac", "pcm16"]
    """A stream takes "pcm16" alone: 24 kHz, one channel."""
