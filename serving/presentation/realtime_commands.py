"""What a client of /v1/realtime says, done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from serving.application.live.answer import fresh_id
from serving.application.live.converse import Converse
from serving.application.live.ports import SoundFormat
from serving.application.live.settings import AnswerRequest, AnswerSettings, LiveSettings
from serving.application.voice import Voice, choose_voice
from serving.domain.errors import InvalidRequest, ServingError
from serving.domain.turn_taking import TurnRules, by_words
from serving.presentation.body import parse
from serving.presentation.outbox import Outbox
from serving.presentation.realtime_json import error_event, server_event, session_json
from serving.presentation.realtime_model import ConnectedModel
from serving.presentation.schemas.audio import voice_name
from serving.presentation.schemas.realtime import (
    Append,
    AudioInput,
    AudioOutput,
    Clear,
    Commit,
    ItemCreate,
    ItemDelete,
    ItemRetrieve,
    ItemTruncate,
    ResponseCancel,
    ResponseCreate,
    ResponseFields,
    SemanticVad,
    ServerVad,
    Session,
    SessionUpdate,
    ToolFields,
    event_type,
    from_base64,
)
from serving.presentation.schemas.translate import read

PCM = "audio/pcm"


class Commands:
    """One session's. `converse` is set before the first event is handled."""

    converse: Converse

    def __init__(self, outbox: Outbox, voice: Voice, model: ConnectedModel, session_id: str, expires_at: int) -> None:
        self._outbox = outbox
        self._voice = voice
        self._model = model
        self._id = session_id
        self._expires_at = expires_at
        self._detection: ServerVad | SemanticVad | None = ServerVad(type="server_vad")
        pcm = voice.formats[PCM]
        first = voice.engines.to_speech().voices[:1]
        self.settings = LiveSettings(AnswerSettings(format=pcm, voice=first[0] if first else None), pcm)
        self._handlers = {
            SessionUpdate: lambda event: self._update(event.session),
            Append: self._append,
            Commit: lambda event: self.converse.commit(event.event_id),
            Clear: lambda event: self.converse.clear(event.event_id),
            ItemCreate: self._create,
            ItemDelete: lambda event: self.converse.delete(event.item_id),
            ItemRetrieve: lambda event: self.converse.show(event.item_id),
            ItemTruncate: lambda event: self.converse.truncate(event.item_id, event.content_index, event.audio_end_ms),
            ResponseCreate: lambda event: self.converse.respond(self._request(event.response or ResponseFields())),
            ResponseCancel: lambda event: self.converse.cancel(event.response_id),
        }

    def greet(self) -> None:
        """The first event."""
        self._outbox.put(server_event("session.created", session=self._session()))

    def handle(self, message: str | bytes) -> None:
        """Do what an event says, or tell why not."""
        event_id = None
        try:
            body = read_json(message)
            if isinstance(body, dict) and isinstance(body.get("event_id"), str):
                event_id = body["event_id"]
            event = read(event_type(body), body)
            self._handlers[type(event)](event)
        except ServingError as error:
            self.refuse(error, event_id)

    def refuse(self, error: ServingError, event_id: str | None = None) -> None:
        """Something cannot be done."""
        self._outbox.put(error_event(error, event_id))

    def _session(self) -> dict[str, Any]:
        detection = None if self._detection is None else self._detection.model_dump(exclude_none=True)
        return session_json(self.settings, self._id, self._model.model().name, detection, self._expires_at)

    # -- settings -------------------------------------------------------------------------------------------------------

    def _update(self, session: Session) -> None:
        """All of it, or nothing."""
        if session.model is not None and self._model.named(session.model) is not self._model.model():
            raise InvalidRequest(
                "the model of a session is chosen when it is connected: ?model=NAME", param="session.model"
            )
        detection = self._detection
        settings = replace(self.settings, answers=self._answers(session, "session"))
        if session.audio is not None and (heard := session.audio.input) is not None:
            if heard.says("turn_detection"):
                detection = heard.turn_detection
            settings = self._listening(settings, heard, detection)
        self.settings, self._detection = settings, detection
        self.converse.change(settings)
        self._outbox.put(server_event("session.updated", session=self._session()))

    def _listening(self, settings: LiveSettings, heard: AudioInput, detection: ServerVad | SemanticVad | None) -> LiveSettings:
        return replace(
            settings,
            input_format=self._voice.formats[heard.format.type] if heard.format else settings.input_format,
            transcripts=heard.transcription is not None if heard.says("transcription") else settings.transcripts,
            turns=rules_of(detection),
            answer_turns=detection is not None and detection.create_response,
            interruptible=detection is not None and detection.interrupt_response,
        )

    def _answers(self, fields: Session | ResponseFields, param: str) -> AnswerSettings:
        answers = self.settings.answers
        if fields.audio is not None and (output := fields.audio.output) is not None:
            answers = self._speaking(answers, output, f"{param}.audio.output")
        if fields.instructions is not None:
            answers = replace(answers, instructions=fields.instructions)
        if fields.output_modalities is not None:
            answers = replace(answers, modality=fields.output_modalities[0])
        if fields.max_output_tokens is not None:
            answers = replace(answers, max_tokens=None if fields.max_output_tokens == "inf" else fields.max_output_tokens)
        if fields.parallel_tool_calls is not None:
            answers = replace(answers, parallel=fields.parallel_tool_calls)
        return with_tools(answers, fields, param)

    def _speaking(self, answers: AnswerSettings, output: AudioOutput, param: str) -> AnswerSettings:
        engine = self._voice.engines.to_speech()
        voice = choose_voice(engine, voice_name(output.voice))
        if voice is not None and voice not in engine.voices:
            raise InvalidRequest(
                f'there is no voice "{voice}": choose one of {", ".join(engine.voices)}'[:1000], param=f"{param}.voice"
            )
        return replace(
            answers,
            format=self._voice.formats[output.format.type] if output.format else answers.format,
            voice=voice or answers.voice,
            speed=output.speed or answers.speed,
        )

    # -- sound and items ------------------------------------------------------------------------------------------------

    def _append(self, event: Append) -> None:
        self.converse.hear(whole_samples(from_base64(event.audio, "audio"), self.settings.input_format), event.event_id)

    def _create(self, event: ItemCreate) -> None:
        item = event.item.item(event.item.id or fresh_id("item"))
        if sound := event.item.sound():
            self.converse.add_sound(item, whole_samples(sound, self.settings.input_format), event.previous_item_id)
        else:
            self.converse.add(item, event.previous_item_id)

    def _request(self, fields: ResponseFields) -> AnswerRequest:
        items: Sequence[Any] | None = fields.input
        if items is not None and any(item.sound() for item in items):
            raise InvalidRequest("what a response is an answer to must be written down", param="response.input")
        return AnswerRequest(
            self._answers(fields, "response"),
            None if items is None else tuple(item.item(item.id or fresh_id("item")) for item in items),
            fields.conversation == "auto",
            fields.metadata,
        )


def with_tools(answers: AnswerSettings, fields: ToolFields, param: str) -> AnswerSettings:
    """Tools and choice go together: whichever is not sent is as it was; a tool that is gone is not to be called any more."""
    if fields.tools is None and fields.tool_choice is None:
        return answers
    tools = answers.tools if fields.tools is None else tuple(tool.template() for tool in fields.tools)
    names = [tool["function"]["name"] for tool in tools]
    try:
        forced = fields.forced(fields.tool_choice, names)
    except ValueError as error:  # a refusal of pydantic's
        raise InvalidRequest(str(error).replace("{param}", f'"{param}.tool_choice"'), param=f"{param}.tool_choice") from None
    if fields.tool_choice is None:
        return replace(answers, tools=tools, forced=answers.forced if answers.forced in ("", *names) and names else None)
    return replace(answers, tools=tools, forced=forced, may_call=fields.tool_choice != "none")


def rules_of(detection: ServerVad | SemanticVad | None) -> TurnRules | None:
    """How turns are found out; None: the client says."""
    if detection is None:
        return None
    if isinstance(detection, SemanticVad):
        return by_words(detection.eagerness)
    silence = detection.silence_duration_ms / 1000
    return TurnRules(detection.threshold, silence, silence, detection.prefix_padding_ms / 1000)


def whole_samples(data: bytes, format: SoundFormat) -> bytes:
    """Raises `InvalidRequest` for half a sample."""
    if not data or len(data) % format.width:
        raise InvalidRequest(f'"audio" must be whole samples of {format.width} bytes ({format.name})', param="audio", code="invalid_value")
    return data


def read_json(message: str | bytes) -> object:
    """Raises `InvalidRequest`."""
    if isinstance(message, bytes):
        raise InvalidRequest("events are JSON in text messages, not binary ones", code="invalid_json")
    try:
        return parse(message.encode(), "the event")
    except InvalidRequest as error:
        raise InvalidRequest(str(error), code="invalid_json") from None
