"""The use case itself: one live conversation, from the sound of a person to the sound of an answer."""

from __future__ import annotations

import copy
import threading
import time

from serving.application.live.answer import Answer, fresh_id
from serving.application.live.events import (
    Cleared,
    Committed,
    ItemAdded,
    ItemDeleted,
    ItemShown,
    ItemTruncated,
    NotTranscribed,
    Problem,
    Transcribed,
    TurnStarted,
    TurnStopped,
    Understood,
)
from serving.application.live.hearing import Ears, Heard
from serving.application.live.ports import Clock, EventSink, LanguageModel
from serving.application.live.settings import AnswerRequest, LiveSettings
from serving.application.live.thinking import Mouth, Thinker, as_serving_error
from serving.application.live.transcribing import Scribe
from serving.application.speech import CutSound, SpeechEngines
from serving.domain.dialogue import Dialogue, Item, Part, messages_of
from serving.domain.errors import Conflict, InvalidRequest, QueueFull
from serving.domain.turn_taking import ENDED

TRANSCRIPT_SECONDS = 30.0
"""An answer waits so long for what was said before it."""


class Converse:
    """One conversation. Commands come from one thread, events leave through the sink from any.

    An answer may be begun before it is sure that the turn is over: it is held back until then, and dropped when the person
    goes on speaking.
    """

    def __init__(
        self, speech: SpeechEngines, cut: CutSound, model: LanguageModel, sink: EventSink, settings: LiveSettings,
        clock: Clock = time.monotonic,
    ) -> None:
        self.settings = settings
        self._sink = sink
        self._clock = clock
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._dialogue = Dialogue()
        self._items: dict[int, str] = {}  # of turns whose words are not known yet
        self._told: dict[int, str] = {}  # the words of a turn that the client knows
        self._lengths: dict[int, float] = {}  # seconds of turns
        self._detected: set[int] = set()  # turns whose end nobody had to tell
        self._committing = 0  # turns that the ears were told to end and have not
        self._elsewhere = 0  # turns that did not come through the ears have numbers below it
        self._answer: Answer | None = None
        self._prepared: tuple[int, str, int, Answer] | None = None  # turn, text, version of the dialogue
        self._mouth = Mouth(speech, sink)
        self._thinker = Thinker(model, self._messages, self._mouth)
        self._scribe = Scribe(self, speech.to_text, cut)
        self._ears = Ears(self, speech.activity)
        self._ears.configure(settings.input_format, settings.turns)

    # -- commands -------------------------------------------------------------------------------------------------------

    def change(self, settings: LiveSettings) -> None:
        """From now on; an answer that is being given goes on as it was."""
        with self._lock:
            self.settings = settings
            self._drop_prepared()
        self._ears.configure(settings.input_format, settings.turns)

    def hear(self, data: bytes, event_id: str | None = None) -> None:
        """More sound, in the session's format. Raises `InvalidRequest` when nobody keeps up with it."""
        self._ears.append(data, event_id)

    def commit(self, event_id: str | None = None) -> None:
        """The sound so far is a turn. Raises `InvalidRequest` when nobody keeps up."""
        with self._lock:
            self._committing += 1
        try:
            self._ears.commit(event_id)
        except InvalidRequest:
            self.commit_done()
            raise

    def clear(self, event_id: str | None = None) -> None:
        """Forget the sound that was not committed."""
        self._ears.clear(event_id)

    def add(self, item: Item, after: str | None = None) -> None:
        """Raises `InvalidRequest`."""
        with self._lock:
            previous = self._dialogue.add(item, after)
            self._sink.tell(ItemAdded(copy.deepcopy(item), previous))
            self._sink.tell(ItemAdded(copy.deepcopy(item), previous, done=True))

    def add_sound(self, item: Item, data: bytes, after: str | None = None) -> None:
        """A message that is spoken: its last part is written down before anything is answered."""
        with self._lock:
            self._elsewhere -= 1
            heard = Heard(self._elsewhere, data, self.settings.input_format, 0)
            self.add(item, after)
            self._items[heard.turn] = item.id
            self._lengths[heard.turn] = len(data) / heard.format.width / heard.format.rate
        self._write(heard)

    def delete(self, item_id: str) -> None:
        """Raises `InvalidRequest`."""
        with self._lock:
            self._dialogue.remove(item_id)
            self._sink.tell(ItemDeleted(item_id))

    def show(self, item_id: str) -> None:
        """Raises `InvalidRequest`."""
        with self._lock:
            self._sink.tell(ItemShown(copy.deepcopy(self._dialogue.get(item_id))))

    def truncate(self, item_id: str, part: int, heard_ms: int) -> None:
        """So much of an answer was heard. Raises `InvalidRequest`."""
        with self._lock:
            self._dialogue.truncate(item_id, part, heard_ms)
            self._sink.tell(ItemTruncated(item_id, part, heard_ms))

    def respond(self, request: AnswerRequest | None = None) -> None:
        """Answer now. Raises `Conflict` while an answer is being given."""
        with self._lock:
            if self._answer is not None and not self._answer.over:
                raise Conflict(
                    f"{self._answer.id} is being given: wait for response.done, or send response.cancel",
                    code="conversation_already_has_active_response",
                )
            self._drop_prepared()
            self._begin(Answer(request or self._usual(), self._dialogue, self._sink, self._lock, self._clock))

    def cancel(self, answer_id: str | None = None) -> None:
        """End the answer that is being given. Raises `InvalidRequest` when there is none, or another one."""
        with self._lock:
            running = self._answer if self._answer is not None and not self._answer.over else None
            if running is None or answer_id not in (None, running.id):
                raise InvalidRequest("there is no such answer to cancel", param="response_id", code="response_cancel_not_active")
            self._interrupt("client_cancelled")

    def close(self) -> None:
        """End everything; no event follows."""
        with self._lock:
            self._drop_prepared()
            if self._answer is not None and not self._answer.over:
                self._answer.interrupt("client_cancelled")
            self._changed.notify_all()
        for stage in (self._ears, self._scribe, self._thinker, self._mouth):
            stage.close()

    def join(self, timeout: float) -> bool:
        """Wait for the threads; whether all have ended."""
        deadline = time.monotonic() + timeout
        stages = (self._ears, self._scribe, self._thinker, self._mouth)
        return all([stage.join(max(0.0, deadline - time.monotonic())) for stage in stages])

    @property
    def busy(self) -> bool:
        """Whether somebody speaks or is being answered."""
        return self._ears.speaking or bool(self._items) or (self._answer is not None and not self._answer.over)

    # -- what the ears tell ---------------------------------------------------------------------------------------------

    def turn_started(self, turn: int, at_ms: int) -> None:
        with self._lock:
            self._items[turn] = fresh_id("item")
            self._sink.tell(TurnStarted(self._items[turn], at_ms))
            self._drop_prepared()
            if self.settings.interruptible:
                self._interrupt("turn_detected")

    def turn_paused(self, heard: Heard) -> None:
        self._scribe.look_ahead(heard)

    def turn_resumed(self, turn: int) -> None:
        with self._lock:
            self._drop_prepared()

    def turn_stopped(self, heard: Heard, at_ms: int) -> None:
        with self._lock:
            self._sink.tell(TurnStopped(self._items[heard.turn], at_ms))
            if self.settings.answer_turns:
                self._detected.add(heard.turn)
            self._commit_item(heard)
        self._write(heard)

    def turn_committed(self, heard: Heard) -> None:
        with self._lock:
            self._items.setdefault(heard.turn, fresh_id("item"))
            self._commit_item(heard)
        self._write(heard)

    def turn_dropped(self, turn: int) -> None:
        with self._lock:
            self._drop_prepared()
            self._forget(turn)

    def commit_done(self) -> None:
        with self._lock:
            self._committing -= 1
            self._changed.notify_all()

    def sound_cleared(self) -> None:
        with self._lock:
            self._drop_prepared()
            committed = {item.id for item in self._dialogue}
            self._items = {turn: item for turn, item in self._items.items() if item in committed}
            self._sink.tell(Cleared())

    def hearing_failed(self, error: Exception, event_id: str | None) -> None:
        self._sink.tell(Problem(as_serving_error(error), event_id))

    def _commit_item(self, heard: Heard) -> None:
        item = Item(self._items[heard.turn], parts=[Part("input_audio", None)])
        self._lengths[heard.turn] = len(heard.data) / heard.format.width / heard.format.rate
        try:
            previous = self._dialogue.add(item)
        except InvalidRequest:
            self._forget(heard.turn)
            raise
        self._sink.tell(Committed(item.id, previous))
        self._sink.tell(ItemAdded(copy.deepcopy(item), previous))
        self._sink.tell(ItemAdded(copy.deepcopy(item), previous, done=True))

    def _forget(self, turn: int) -> None:
        for known in (self._items, self._told, self._lengths):
            known.pop(turn, None)
        self._detected.discard(turn)
        self._changed.notify_all()

    def _write(self, heard: Heard) -> None:
        if not self._scribe.finish(heard):
            self.turn_not_understood(heard.turn, QueueFull("turns come faster than they are written down"))

    # -- what the scribe tells ------------------------------------------------------------------------------------------

    def partly_understood(self, turn: int, text: str, speech_end_ms: int) -> None:
        with self._lock:
            if turn not in self._items:
                return
            self._tell_more(turn, text)
            if self.settings.turns and self.settings.answer_turns and ENDED.search(text) and self._ears.speaking:
                self._prepare(turn, text)
        self._ears.understood(turn, text)

    def turn_understood(self, turn: int, text: str) -> None:
        with self._lock:
            item_id = self._items.pop(turn, None)
            self._changed.notify_all()
            if item_id is None:
                return
            version = self._dialogue.version
            self._fill_in(item_id, text)
            if self.settings.transcripts:
                self._tell_more(turn, text, item_id)
                self._sink.tell(Transcribed(item_id, text, self._lengths.pop(turn, 0.0)))
            self._told.pop(turn, None)
            if turn in self._detected and text and not self._ears.speaking:
                self._answer_turn(turn, text, version)
            self._detected.discard(turn)

    def turn_not_understood(self, turn: int, error: Exception) -> None:
        with self._lock:
            item_id = self._items.get(turn)
            self._forget(turn)
            if item_id is not None:
                self._sink.tell(NotTranscribed(item_id, as_serving_error(error)))

    def _tell_more(self, turn: int, text: str, item_id: str | None = None) -> None:
        """Words cannot be taken back, so a turn's are told only as far as they go on from what was told."""
        told = self._told.get(turn, "")
        if self.settings.transcripts and text.startswith(told) and len(text) > len(told):
            self._told[turn] = text
            self._sink.tell(Understood(item_id or self._items[turn], text[len(told) :]))

    def _fill_in(self, item_id: str, text: str) -> None:
        for item in self._dialogue:
            if item.id == item_id:
                item.parts[-1].text = text
                self._dialogue.version += 1

    # -- answers --------------------------------------------------------------------------------------------------------

    def _usual(self) -> AnswerRequest:
        return AnswerRequest(self.settings.answers)

    def _begin(self, answer: Answer) -> None:
        self._answer = answer
        if not self._thinker.put(answer):
            answer.fail(QueueFull("answers are asked for faster than they are given"))

    def _prepare(self, turn: int, text: str) -> None:
        """Begin to answer a turn that may be over."""
        if self._answer is not None and not self._answer.over:
            return
        if self._prepared is not None and self._prepared[:2] == (turn, text):
            return
        self._drop_prepared()
        answer = Answer(self._usual(), self._dialogue, self._sink, self._lock, self._clock, held=True)
        answer.messages = [*self._dialogue.messages(answer.request.settings.instructions), {"role": "user", "content": text}]
        if self._thinker.put(answer):
            self._prepared = (turn, text, self._dialogue.version, answer)

    def _drop_prepared(self) -> None:
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            prepared[-1].drop()

    def _answer_turn(self, turn: int, text: str, version: int) -> None:
        """With the answer that is prepared, if it is one to these words and nothing else was said since."""
        if self._answer is not None and not self._answer.over:
            self._drop_prepared()
            return
        if self._prepared is not None and self._prepared[:3] == (turn, text, version - 1):
            self._answer, self._prepared = self._prepared[-1], None
            self._answer.release()
            return
        self._drop_prepared()
        self._begin(Answer(self._usual(), self._dialogue, self._sink, self._lock, self._clock))

    def _interrupt(self, reason: str) -> None:
        """End the answer that is being given, or stop the sound of the last one; the history keeps what was heard."""
        answer = self._answer
        if answer is None:
            return
        if not answer.over:
            heard = answer.interrupt(reason)
        elif answer.playing:
            heard = answer.hush()
        else:
            return
        if heard is not None and answer.request.in_dialogue:
            self._dialogue.version += 1
            self._sink.tell(ItemTruncated(answer.message.id, 0, int(heard)))

    def _messages(self, answer: Answer) -> list[dict]:
        """What an answer is to: called on the thread that thinks, and waits for the words that were said before."""
        if answer.messages is not None:
            return answer.messages
        settings, items = answer.request.settings, answer.request.items
        with self._changed:
            if items is not None:
                return messages_of(list(items), settings.instructions)
            self._changed.wait_for(lambda: answer.over or not self._waits_for_words(), TRANSCRIPT_SECONDS)
            return self._dialogue.messages(settings.instructions)

    def _waits_for_words(self) -> bool:
        waiting = set(self._items.values())
        return self._committing > 0 or any(item.id in waiting for item in self._dialogue)
