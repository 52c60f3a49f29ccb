"""POST /v1/audio/transcriptions, /v1/audio/translations and /v1/audio/speech."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from flask import Blueprint, Request, Response, jsonify, request
from werkzeug.exceptions import UnsupportedMediaType

from serving.application.speech import Audio, Segment, SpeechChunk
from serving.domain.errors import InvalidRequest, ModelNotFound, NotSupported
from serving.presentation import subtitles
from serving.presentation.body import read_json
from serving.presentation.errors import error_body
from serving.presentation.hearing import attended, metered, voice_of
from serving.presentation.peer import Peer
from serving.presentation.schemas.audio import SpeechRequest, TranscriptionRequest, voice_name
from serving.presentation.schemas.translate import read
from serving.presentation.seeing import large_body
from serving.presentation.state import ServerState
from serving.presentation.streaming import ClientGone, dump, events_response, told

HEARING = ("whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe")
SPEAKING = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
"""Names that clients come with: whoever hears or speaks here answers to them."""
TYPES = {
    "mp3": "audio/mpeg", "opus": "audio/ogg", "aac": "audio/aac", "flac": "audio/flac", "wav": "audio/wav", "pcm": "audio/pcm",
}
LANGUAGES = {"en": "english"}
"""What OpenAI calls them; others go by their code."""
UNDETERMINED = "und"
"""ISO 639-2's code for a language that nobody has told and that the model keeps to itself."""


def audio_blueprint(state: ServerState) -> Blueprint:
    """Files of sound and texts."""
    routes = Blueprint("audio", __name__, url_prefix="/v1/audio")

    @routes.post("/transcriptions")
    def transcriptions() -> Response:
        return transcribe(state)

    @routes.post("/translations")
    def translations() -> Response:
        raise NotSupported(
            "nothing here translates: POST /v1/audio/transcriptions writes down what is said in the language that it is said in"
        )

    @routes.post("/speech")
    def speech() -> Response:
        return speak(state)

    return routes


def transcribe(state: ServerState) -> Response:
    """All at once, or a stretch after the other."""
    with large_body(state, request):
        fields, data = read_form(request)
        asked = read(TranscriptionRequest, fields)
        voice = voice_of(state)
        engine = voice.engines.to_text()
        check_name("model", asked.model, engine.name, HEARING)
        audio = voice.open(data, "file")
        del data
    stretches = metered(state, "heard", voice.hear(audio, asked.language), audio.seconds)
    peer = Peer(request.environ)
    if asked.stream:
        return events_response(transcript_events(attended(stretches, peer), audio.seconds))
    segments = [segment for found in attended(stretches, peer) for segment in found]
    if asked.timestamp_granularities and "word" in asked.timestamp_granularities and any(not one.words for one in segments):
        raise InvalidRequest(
            f'"timestamp_granularities" cannot have "word": {engine.name} knows the times of segments only',
            param="timestamp_granularities",
        )
    spoken = asked.language or (engine.languages[0] if len(engine.languages) == 1 else UNDETERMINED)
    return transcript_response(asked, audio, segments, spoken)


def transcript_response(asked: TranscriptionRequest, audio: Audio, segments: list[Segment], language: str) -> Response:
    """In the form that was asked for; `language` as in ISO 639."""
    text = " ".join(segment.text for segment in segments)
    if asked.response_format == "text":
        return Response(text + "\n", content_type="text/plain; charset=utf-8")
    if asked.response_format == "srt":
        return Response(subtitles.srt(segments), content_type="text/plain; charset=utf-8")
    if asked.response_format == "vtt":
        return Response(subtitles.vtt(segments), content_type="text/vtt; charset=utf-8")
    body: dict[str, Any] = {"text": text, "usage": usage(audio.seconds)}
    if asked.response_format == "verbose_json":
        wanted = asked.timestamp_granularities or ["segment"]
        body |= {"task": "transcribe", "language": LANGUAGES.get(language, language), "duration": round(audio.seconds, 3)}
        if "segment" in wanted:
            body["segments"] = [
                {"id": at, "start": round(one.start, 3), "end": round(one.end, 3), "text": one.text}
                for at, one in enumerate(segments)
            ]
        if "word" in wanted:
            body["words"] = [
                {"word": word.text, "start": round(word.start, 3), "end": round(word.end, 3)}
                for one in segments
                for word in one.words
            ]
    return jsonify(body)


def transcript_events(stretches: Iterator[list[Segment]], seconds: float) -> Iterator[bytes]:
    """OpenAI's: deltas that are put together, then all of it."""
    said: list[str] = []
    try:
        for found in stretches:
            for segment in found:
                delta = f" {segment.text}" if said else segment.text
                said.append(segment.text)
                yield event({"type": "transcript.text.delta", "delta": delta})
        yield event({"type": "transcript.text.done", "text": " ".join(said), "usage": usage(seconds)})
    except ClientGone:
        return
    except Exception as error:
        yield event(error_body(told(error)))


def speak(state: ServerState) -> Response:
    """The first sentence is spoken before there is a response, so a refusal still has its own status."""
    asked = read(SpeechRequest, read_json(request))
    voice = voice_of(state)
    engine = voice.engines.to_speech()
    check_name("model", asked.model, engine.name, SPEAKING)
    chunks = voice.speak(asked.input, voice_name(asked.voice), asked.speed)
    chunks = attended(metered(state, "spoken", chunks), Peer(request.environ))
    first = next(chunks, None)
    if first is None:
        raise InvalidRequest('"input" has no word that could be spoken', param="input")
    file = voice.write(asked.response_format, engine.rate, sounds(chain([first], chunks)), None)
    if asked.stream_format == "sse":
        return events_response(speech_events(file))
    return Response(until_gone(file), content_type=TYPES[asked.response_format])


def speech_events(file: Iterator[bytes]) -> Iterator[bytes]:
    """OpenAI's: pieces of the file as base64, then the end."""
    try:
        for piece in file:
            yield event({"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()})
        yield event({"type": "speech.audio.done"})
    except ClientGone:
        return
    except Exception as error:
        yield event(error_body(told(error)))


def sounds(chunks: Iterable[SpeechChunk]) -> Iterator[Audio]:
    """Without the texts."""
    return (chunk.audio for chunk in chunks)


def until_gone(file: Iterator[bytes]) -> Iterator[bytes]:
    """The file as far as its reader stays."""
    try:
        yield from file
    except ClientGone:
        return


def read_form(request: Request) -> tuple[dict[str, Any], bytes]:
    """(fields, the file). Raises 413, 415 and `InvalidRequest`."""
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType("send a form: the header Content-Type: multipart/form-data, with the sound as its file")
    fields: dict[str, Any] = {}
    for name, values in request.form.lists():
        if name is None:
            raise InvalidRequest("a part of the form has no name: send Content-Disposition: form-data; name=... with each")
        if name.endswith("[]"):
            fields[name[:-2]] = values
        elif len(values) > 1:
            raise InvalidRequest(f'"{name[:80]}" comes {len(values)} times', param=name[:80])
        else:
            fields[name] = values[0]
    if "file" not in request.files:
        raise InvalidRequest('"file" is missing: the sound, as a file of the form', param="file")
    if len(request.files) > 1 or len(request.files.getlist("file")) > 1:
        raise InvalidRequest("send one file", param="file")
    return fields, request.files["file"].stream.read()


def check_name(param: str, name: str | None, own: str, known: tuple[str, ...]) -> None:
    """Raises `ModelNotFound`."""
    if name is not None and name not in (own, *known):
        raise ModelNotFound(f'there is no "{name}" here: leave "{param}" out, or write "{own}" or {known[0]}', param=param)


def usage(seconds: float) -> dict[str, Any]:
    """What was heard, in OpenAI's words."""
    return {"type": "duration", "seconds": math.ceil(seconds)}


def event(body: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return f"data: {dump(body)}\n\n".encode()
