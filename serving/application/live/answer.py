"""One answer: what it consists of so far, and what the other end has been told of it."""

from __future__ import annotations

import copy
import threading
import uuid
from collections.abc import Callable

from serving.application.deltas import Usage
from serving.application.live.events import (
    AnswerBegan,
    AnswerEnded,
    AnswerState,
    AnswerStatus,
    Called,
    ItemAdded,
    LiveEvent,
    OutputClosed,
    OutputOpened,
    PartClosed,
    PartOpened,
    Said,
    Sounded,
)
from serving.application.live.ports import Clock, EventSink
from serving.application.live.settings import AnswerRequest
from serving.domain.dialogue import Dialogue, Item, Part
from serving.domain.errors import ServingError

DELTA_SECONDS = 0.2
"""Sound leaves in pieces of that length."""
FIRST_SECONDS = 1.5
"""An answer may be waited for so long: who would fall silent in the middle of one earlier than that is spoken for first."""


def fresh_id(kind: str) -> str:
    """Of an item, an answer or a call."""
    return f"{kind}_{uuid.uuid4().hex[:21]}"


class Answer:
    """Every method takes the session's lock. While `held` nothing is told, and whatever happens is put off until `release`.

    Nothing happens any more once it has ended, so whoever still computes for it may go on harmlessly, and should look at
    `over`.
    """

    def __init__(self, request: AnswerRequest, dialogue: Dialogue, sink: EventSink, lock: threading.RLock, clock: Clock, *,
                 held: bool = False) -> None:
        self.id = fresh_id("resp")
        self.request = request
        self.status: AnswerStatus = "in_progress"
        self.messages: list[dict] | None = None  # what it is an answer to, where that is known beforehand
        self._dialogue = dialogue
        self._sink = sink
        self._lock = lock
        self._clock = clock
        self._put_off: list[Callable[[], None]] | None = [] if held else None
        self._outputs: list[Item] = []
        self._message: Item | None = None
        self._reason: str | None = None
        self._error: ServingError | None = None
        self._usage: Usage | None = None
        self._played_until = 0.0
        self._began = clock()
        self._made = 0.0  # seconds of sound, told or held back
        if not held:
            self._tell(AnswerBegan(self.state))

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.status != "in_progress"

    @property
    def aloud(self) -> bool:
        return self.request.settings.modality == "audio"

    @property
    def state(self) -> AnswerState:
        settings = self.request.settings
        return AnswerState(
            self.id, self.status, self._reason, self._error, tuple(copy.deepcopy(self._outputs)), self._usage,
            settings.modality, settings.voice, settings.format.name, settings.max_tokens, self.request.in_dialogue,
            self.request.metadata,
        )

    @property
    def message(self) -> Item | None:
        """What it says, once it says something."""
        return self._message

    @property
    def heard_ms(self) -> float:
        """How much of its sound can have been heard by now, by whoever plays it as it comes."""
        if self._message is None:
            return 0.0
        length = sum(lasts for _, lasts in self._message.parts[0].spoken)
        return max(0.0, length - 1000 * max(0.0, self._played_until - self._clock()))

    @property
    def playing(self) -> bool:
        """Whether some of its sound cannot have been heard yet."""
        return self._clock() < self._played_until

    @property
    def silent_from(self) -> float:
        """When whoever listens hears nothing for want of sound: before the first sound a moment of it does no harm."""
        return self._played_until or self._began + self._made + FIRST_SECONDS

    def release(self) -> None:
        """Tell everything that was held back."""
        with self._lock:
            deeds, self._put_off = self._put_off or [], None
            self._tell(AnswerBegan(self.state))
            for deed in deeds:
                if not self.over:
                    deed()

    def say(self, text: str) -> None:
        """More words."""
        self._do(lambda: self._say(text))

    def sound(self, text: str, data: bytes) -> None:
        """What these words sound like, in the format that was asked for."""
        self._made += self._seconds(data)
        self._do(lambda: self._sound(text, data))

    def call(self, call_id: str, name: str, arguments: str) -> None:
        """A function is to be called."""
        self._do(lambda: self._call(call_id, name, arguments))

    def end(self, status: AnswerStatus, reason: str | None = None, usage: Usage | None = None) -> None:
        """Nothing more will come."""
        self._do(lambda: self._end(status, reason, usage))

    def fail(self, error: ServingError) -> None:
        def fail() -> None:
            self._error = error
            self._end("failed", None, None)

        self._do(fail)

    def drop(self) -> None:
        """Give up what was held back: nobody ever hears of it."""
        with self._lock:
            self.status, self._put_off = "cancelled", None

    def interrupt(self, reason: str) -> float | None:
        """End it now; how many milliseconds of its sound were heard, None if it made none."""
        with self._lock:
            self._sink.purge(self.id)
            heard = self.heard_ms if self._message is not None and self.aloud else None
            if heard is not None:
                self._message.parts[0].heard_ms = heard
            self._end("cancelled", reason, None)
            self._played_until = 0.0
            return heard

    def hush(self) -> float:
        """It has ended, but is still being heard: from now on it is not; how many milliseconds were."""
        with self._lock:
            self._sink.purge(self.id)
            heard = self._message.parts[0].heard_ms = self.heard_ms
            self._played_until = 0.0
            return heard

    # -- under the lock -------------------------------------------------------------------------------------------------

    def _do(self, deed: Callable[[], None]) -> None:
        with self._lock:
            if self.over:
                return
            if self._put_off is not None:
                self._put_off.append(deed)
            else:
                deed()

    def _say(self, text: str) -> None:
        if self._message is None:
            part = Part("output_audio" if self.aloud else "output_text")
            self._message = Item(fresh_id("item"), "message", "assistant", [], "in_progress")
            self._open(self._message)
            self._message.parts.append(part)
            self._tell(PartOpened(self.id, len(self._outputs) - 1, self._message.id, copy.deepcopy(part)))
        self._message.parts[0].text += text
        self._tell(Said(self.id, self._outputs.index(self._message), self._message.id, text, self.aloud))

    def _sound(self, text: str, data: bytes) -> None:
        format, seconds = self.request.settings.format, self._seconds(data)
        self._message.parts[0].spoken.append((text, 1000 * seconds))
        self._played_until = max(self._played_until, self._clock()) + seconds
        size = int(DELTA_SECONDS * format.rate) * format.width
        for at in range(0, len(data), size):
            self._tell(Sounded(self.id, self._outputs.index(self._message), self._message.id, data[at : at + size]))

    def _seconds(self, data: bytes) -> float:
        return len(data) / self.request.settings.format.width / self.request.settings.format.rate

    def _call(self, call_id: str, name: str, arguments: str) -> None:
        item = Item(fresh_id("item"), "function_call", "assistant", [], "in_progress", call_id, name)
        self._open(item)
        item.arguments, item.status = arguments, "completed"
        self._dialogue.version += 1
        self._tell(Called(self.id, self._outputs.index(item), copy.deepcopy(item)))
        self._close(item)

    def _open(self, item: Item) -> None:
        self._outputs.append(item)
        self._tell(OutputOpened(self.id, len(self._outputs) - 1, copy.deepcopy(item)))
        if self.request.in_dialogue:
            previous = self._dialogue.add(item)
            self._tell(ItemAdded(copy.deepcopy(item), previous))

    def _close(self, item: Item) -> None:
        done = copy.deepcopy(item)
        self._tell(OutputClosed(self.id, self._outputs.index(item), done))
        if self.request.in_dialogue:
            self._tell(ItemAdded(done, None, done=True))

    def _end(self, status: AnswerStatus, reason: str | None, usage: Usage | None) -> None:
        if self._message is not None:
            self._message.status = "completed" if status == "completed" else "incomplete"
            index = self._outputs.index(self._message)
            self._tell(PartClosed(self.id, index, self._message.id, copy.deepcopy(self._message.parts[0])))
            self._close(self._message)
        self.status, self._reason, self._usage = status, reason, usage
        self._dialogue.version += 1
        self._tell(AnswerEnded(self.state))

    def _tell(self, event: LiveEvent) -> None:
        self._sink.tell(event)
