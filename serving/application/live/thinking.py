"""Third and fourth stage: the engine answers, and a voice speaks what it says, sentence by sentence."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from serving.application.chat import GenerateChat
from serving.application.deltas import ChoiceFinished, TextDelta, ToolCallDelta, Usage
from serving.application.generation import Options
from serving.application.live.answer import Answer
from serving.application.live.events import AnswerStatus
from serving.application.live.ports import EventSink, LanguageModel
from serving.application.live.stage import Stage
from serving.application.rendering import RenderChat
from serving.application.sentences import Sentences
from serving.application.speech import SpeechEngines
from serving.domain.errors import InvalidRequest, ServingError

TICK_SECONDS = 0.05
"""So long an answer that is over may go unnoticed."""
AHEAD = 4
"""Tokens that are computed while the voice speaks what came before them: who computes one thing at a time hears the first one sooner."""
BACKLOG_BYTES = 2 * 2**20
"""The voice waits while so much of what it said has not left."""
FIRST_WORDS, LEAST_WORDS = (5, 12), 2
"""The first pieces that are spoken have so many words at most, and at least: each lasts while the next one is computed."""
ROOM = 0.25
"""Of the context is kept free for the answer, at the cost of the oldest messages."""

log = logging.getLogger(__name__)

Messages = Callable[[Answer], list[dict]]
ENDINGS: dict[str, tuple[AnswerStatus, str | None]] = {
    "stop": ("completed", None),
    "tool_calls": ("completed", None),
    "length": ("incomplete", "max_output_tokens"),
}


@dataclass(frozen=True, slots=True)
class Ending:
    """Comes after the last sentence."""

    status: AnswerStatus
    reason: str | None
    usage: Usage | None


class Mouth:
    """Speaks, when it is its turn among all that do. What cannot be spoken ends its answer, and nothing else."""

    def __init__(self, speech: SpeechEngines, sink: EventSink) -> None:
        self._speech = speech
        self._sink = sink
        self._stage: Stage[tuple[Answer, str | Ending, threading.Event]] = Stage("mouth", self._work, self._fail, 1)

    def put(self, answer: Answer, what: str | Ending) -> None:
        """A sentence, or the end. Returns when that has been spoken, or its answer is over."""
        spoken = threading.Event()
        self._stage.put((answer, what, spoken), patience=lambda: not answer.over)
        while not spoken.wait(TICK_SECONDS) and not answer.over and not self._stage.closed(0):
            pass

    def close(self) -> None:
        self._stage.close()

    def join(self, timeout: float) -> bool:
        return self._stage.join(timeout)

    def _work(self, job: tuple[Answer, str | Ending, threading.Event]) -> None:
        answer, what, spoken = job
        try:
            if not answer.over:
                self._utter(answer, what)
        finally:
            spoken.set()

    def _utter(self, answer: Answer, what: str | Ending) -> None:
        if isinstance(what, Ending):
            answer.end(what.status, what.reason, what.usage)
            return
        settings = answer.request.settings
        chunks = self._speech.to_speech().speak(what, settings.voice, settings.speed)
        while True:
            with self._speech.speaking.turn(answer.silent_from):
                chunk = None if answer.over else next(chunks, None)
            if chunk is None:
                return
            self._wait_for_room(answer)
            answer.sound(chunk.text and chunk.text + " ", settings.format.encode(chunk.audio))

    def _wait_for_room(self, answer: Answer) -> None:
        while self._sink.backlog() > BACKLOG_BYTES and not answer.over and not self._stage.closed(TICK_SECONDS):
            pass

    def _fail(self, job: tuple[Answer, str | Ending, threading.Event], error: Exception) -> None:
        job[0].fail(as_serving_error(error))


class Thinker:
    """Has answers generated, one after the other."""

    def __init__(self, model: LanguageModel, messages: Messages, mouth: Mouth) -> None:
        self._model = model
        self._messages = messages
        self._mouth = mouth
        self._stage: Stage[Answer] = Stage("thinker", self._work, lambda answer, error: answer.fail(as_serving_error(error)), 4)

    def put(self, answer: Answer) -> bool:
        """Whether there was room."""
        return self._stage.put(answer)

    def close(self) -> None:
        self._stage.close()

    def join(self, timeout: float) -> bool:
        return self._stage.join(timeout)

    def _work(self, answer: Answer) -> None:
        messages = self._messages(answer)
        if answer.over:
            return
        settings = answer.request.settings
        render = RenderChat(self._fit(messages, settings.offered), list(settings.offered))
        options = Options(max_tokens=self._at_most(settings.max_tokens, render), ahead=AHEAD if answer.aloud else None)
        asked = self._model.ask(GenerateChat(render, settings.forced, settings.parallel, options))
        sentences, reason = Sentences(FIRST_WORDS, LEAST_WORDS), None
        updates = asked.deltas(TICK_SECONDS)
        try:
            for deltas in updates:
                if answer.over:
                    return
                for delta in deltas:
                    if isinstance(delta, TextDelta):
                        self._say(answer, delta.text, sentences)
                    elif isinstance(delta, ToolCallDelta):
                        answer.call(delta.id, delta.name, delta.arguments)
                    elif isinstance(delta, ChoiceFinished):
                        reason = delta
        finally:
            updates.close()
        self._finish(answer, sentences, reason, asked.usage)

    def _say(self, answer: Answer, text: str, sentences: Sentences) -> None:
        if not text:
            return
        answer.say(text)
        if answer.aloud:
            for sentence in sentences.push(text):
                self._mouth.put(answer, sentence)

    def _finish(self, answer: Answer, sentences: Sentences, finished: ChoiceFinished | None, usage: Usage) -> None:
        if finished is None or finished.reason not in ENDINGS:
            answer.fail(ServingError((finished and finished.error) or "the answer could not be computed"))
            return
        status, reason = ENDINGS[finished.reason]
        if not answer.aloud:
            answer.end(status, reason, usage)
            return
        if rest := sentences.flush():
            self._mouth.put(answer, rest)
        self._mouth.put(answer, Ending(status, reason, usage))

    def _at_most(self, tokens: int | None, render: RenderChat) -> int | None:
        """Of an answer: a conversation goes on after what was once wished for has no room any more."""
        if tokens is None:
            return None
        model = self._model.model()
        room = model.capacity - len(render.tokens(model))
        return max(1, min(tokens, room))

    def _fit(self, messages: list[dict], tools: tuple[dict, ...]) -> list[dict]:
        """The newest messages that leave room for an answer; instructions stay."""
        if not messages:
            raise InvalidRequest("there is nothing to answer: the conversation is empty")
        model = self._model.model()
        room = (1 - ROOM) * model.capacity
        first = 1 if messages[0]["role"] == "system" else 0
        while len(messages) > first + 1 and len(RenderChat(messages, list(tools)).tokens(model)) > room:
            after = next((at for at in range(first + 1, len(messages)) if messages[at]["role"] == "user"), None)
            if after is None:
                break
            messages = messages[:first] + messages[after:]
        return messages


def as_serving_error(error: Exception) -> ServingError:
    """What the other end may read of an error; a mistake of ours goes to the log."""
    if isinstance(error, ServingError):
        return error
    log.error("a live conversation met an error", exc_info=error)
    return ServingError("the server made a mistake; its log has the details")
