"""First stage: who speaks when."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from serving.application.live.ports import SoundFormat
from serving.application.live.stage import Stage
from serving.application.speech import VoiceActivity, VoiceStream
from serving.domain.errors import InvalidRequest
from serving.domain.turn_taking import TurnRules, TurnTaking

PAUSE_SECONDS = 0.06
"""Whoever is silent for so long may have ended: time to write down what was said."""
PIECE_SECONDS = 8.0
"""At a pause after so much speech, what was said is settled: it is not listened to again."""
TURN_SECONDS = 90.0
"""A turn ends after that, whoever still speaks."""
BUFFER_SECONDS = 180.0
"""Sound that was sent and not committed, at most."""
QUEUE = 4096


@dataclass(frozen=True, slots=True)
class Heard:
    """Sound of a turn. `speech_end_ms`: when speech ended; `settled`: it will not come again."""

    turn: int
    data: bytes = field(repr=False)
    format: SoundFormat
    speech_end_ms: int
    settled: bool = False


class TurnListener(Protocol):
    """Is told, on the thread that listens."""

    def turn_started(self, turn: int, at_ms: int) -> None: ...

    def turn_paused(self, heard: Heard) -> None: ...

    def turn_resumed(self, turn: int) -> None: ...

    def turn_stopped(self, heard: Heard, at_ms: int) -> None: ...

    def turn_committed(self, heard: Heard) -> None: ...

    def turn_dropped(self, turn: int) -> None:
        """One that had started will not end: nobody looks for its end any more."""

    def commit_done(self) -> None:
        """A turn that was to be committed has been, or cannot be."""

    def sound_cleared(self) -> None: ...

    def hearing_failed(self, error: Exception, event_id: str | None) -> None: ...


class Ears:
    """Sound in, turns out. `activity` is asked for when somebody's turns are to be found out."""

    def __init__(self, listener: TurnListener, activity: Callable[[], VoiceActivity]) -> None:
        self._listener = listener
        self._activity = activity
        self._lock = threading.Lock()
        self._waiting = 0  # bytes in the queue
        self._held = 0  # bytes in the buffer, as the queueing side may know them
        self._limit = 0
        self._turn = 0
        self._buffer = bytearray()
        self._start = 0  # samples before the buffer
        self._format: SoundFormat | None = None
        self._taking: TurnTaking | None = None
        self._stream: VoiceStream | None = None
        self._stage: Stage[tuple[Callable[[], None], str | None]] = Stage("ears", self._work, self._fail, QUEUE)

    # -- from any thread ----------------------------------------------------------------------------------------------

    def configure(self, format: SoundFormat, rules: TurnRules | None) -> None:
        """From here on sound comes like this. Another format forgets what was not committed, other rules a turn that has begun."""
        self._limit = int(BUFFER_SECONDS * format.rate) * format.width
        self._put(lambda: self._configure(format, rules))

    def append(self, data: bytes, event_id: str | None = None) -> None:
        """Raises `InvalidRequest` when more waits than anybody listens to."""
        with self._lock:
            if self._waiting + self._held + len(data) > self._limit:
                raise InvalidRequest(
                    f"more than {BUFFER_SECONDS:.0f} s of audio wait to be committed: send input_audio_buffer.commit or "
                    "input_audio_buffer.clear",
                    param="audio",
                    code="input_audio_buffer_full",
                )
            self._waiting += len(data)
        try:
            self._put(lambda: self._listen(data), event_id)
        except BaseException:
            with self._lock:
                self._waiting -= len(data)
            raise

    def commit(self, event_id: str | None = None) -> None:
        """What was sent so far is a turn."""
        self._put(self._commit_and_tell, event_id)

    def clear(self, event_id: str | None = None) -> None:
        """Forget what was not committed."""
        self._put(self._clear, event_id)

    def understood(self, turn: int, text: str) -> None:
        """The words of a turn so far."""
        self._put(lambda: self._understood(turn, text))

    @property
    def speaking(self) -> bool:
        """Whether somebody is."""
        return self._taking is not None and self._taking.speaking

    def close(self) -> None:
        self._stage.close()

    def join(self, timeout: float) -> bool:
        return self._stage.join(timeout)

    def _put(self, deed: Callable[[], None], event_id: str | None = None) -> None:
        if not self._stage.put((deed, event_id)):
            raise InvalidRequest("events come faster than they are dealt with", code="too_many_events")

    # -- on the thread that listens ------------------------------------------------------------------------------------

    def _work(self, job: tuple[Callable[[], None], str | None]) -> None:
        job[0]()
        with self._lock:
            self._held = len(self._buffer)

    def _fail(self, job: tuple[Callable[[], None], str | None], error: Exception) -> None:
        self._listener.hearing_failed(error, job[1])

    def _configure(self, format: SoundFormat, rules: TurnRules | None) -> None:
        other = self._format is None or self._format.name != format.name
        if not other and rules == (None if self._taking is None else self._taking.rules):
            return
        if self.speaking:
            self._listener.turn_dropped(self._turn)
        if other:
            self._format = format
            self._start, self._buffer = 0, bytearray()
        if rules is None:
            self._taking = None
            return
        self._restart()
        self._taking = TurnTaking(rules)

    def _restart(self) -> None:
        """Listen from the next sample on."""
        activity = self._activity()
        self._stream = activity.stream()
        self._reader = self._format.reader(activity.rate)
        self._window = activity.window / activity.rate
        self._origin = self._now
        self._windows = 0
        self._from = self._now
        self._piece = self._now
        self._asked = False

    @property
    def _now(self) -> float:
        """Seconds of sound so far."""
        return (self._start + len(self._buffer) // self._format.width) / self._format.rate

    def _listen(self, data: bytes) -> None:
        with self._lock:
            self._waiting -= len(data)
        self._buffer += data
        if self._taking is None:
            return
        for probability in self._stream.push(self._reader.push(data)):
            self._windows += 1
            self._window_passed(probability, self._origin + self._windows * self._window)
        if not self._taking.speaking:
            rules = self._taking.rules
            self._forget(self._now - rules.padding - rules.least_speech - 1.0)

    def _window_passed(self, probability: float, moment: float) -> None:
        taking = self._taking
        was_speaking, silence = taking.speaking, taking.silence
        change = taking.push(probability, self._window)
        if change == "started":
            rules = taking.rules
            self._turn += 1
            began = moment - rules.least_speech
            self._from = self._piece = max(began - rules.padding, self._start / self._format.rate)
            self._asked = False
            self._listener.turn_started(self._turn, _ms(self._from))
        elif change == "stopped":
            self._end(moment, moment - silence - self._window)
        elif was_speaking and not taking.silence and self._asked:
            self._asked = False
            self._listener.turn_resumed(self._turn)
        elif was_speaking and taking.silence >= PAUSE_SECONDS and not self._asked:
            self._pause(moment, moment - taking.silence)
        elif was_speaking and moment - self._from > TURN_SECONDS:
            taking.reset()
            self._end(moment, moment)

    def _pause(self, moment: float, speech_end: float) -> None:
        self._asked = True
        settled = moment - self._piece > PIECE_SECONDS
        self._listener.turn_paused(self._sound(self._piece, moment, speech_end, settled))
        if settled:
            self._piece = moment

    def _end(self, moment: float, speech_end: float) -> None:
        self._listener.turn_stopped(self._sound(self._piece, moment, speech_end), _ms(moment))
        self._forget(moment)

    def _commit_and_tell(self) -> None:
        try:
            self._commit()
        finally:
            self._listener.commit_done()

    def _commit(self) -> None:
        if self._now - self._start / self._format.rate < 0.1:
            raise InvalidRequest(
                "there is less than 100 ms of audio to commit: send input_audio_buffer.append first",
                code="input_audio_buffer_commit_empty",
            )
        begun = self._taking is not None and self._taking.speaking
        if not begun:
            self._turn += 1
        begin = self._piece if begun else self._start / self._format.rate
        self._listener.turn_committed(self._sound(begin, self._now, self._now))
        self._afresh()

    def _clear(self) -> None:
        self._afresh()
        self._listener.sound_cleared()

    def _afresh(self) -> None:
        self._forget(self._now)
        if self._taking is not None:
            self._taking.reset()
            self._restart()

    def _understood(self, turn: int, text: str) -> None:
        if turn == self._turn and self._taking is not None and self._taking.speaking:
            self._taking.heard(text)

    def _sound(self, begin: float, end: float, speech_end: float, settled: bool = False) -> Heard:
        first, last = (max(int(at * self._format.rate) - self._start, 0) * self._format.width for at in (begin, end))
        return Heard(self._turn, bytes(self._buffer[first:last]), self._format, _ms(speech_end), settled)

    def _forget(self, before: float) -> None:
        samples = int(before * self._format.rate) - self._start
        samples = min(max(samples, 0), len(self._buffer) // self._format.width)
        del self._buffer[: samples * self._format.width]
        self._start += samples


def _ms(seconds: float) -> int:
    return int(round(seconds * 1000))
