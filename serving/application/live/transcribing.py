"""Second stage: what was said, while it is still being said."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from serving.application.live.hearing import Heard
from serving.application.live.stage import POLL_SECONDS
from serving.application.speech import CutSound, SpeechToText
from serving.domain.written import as_written

FINALS = 16
"""Turns and settled pieces that may wait."""


class TextListener(Protocol):
    """Is told, on the thread that writes."""

    def partly_understood(self, turn: int, text: str, speech_end_ms: int) -> None: ...

    def turn_understood(self, turn: int, text: str) -> None: ...

    def turn_not_understood(self, turn: int, error: Exception) -> None: ...


@dataclass(slots=True)
class _Turn:
    settled: list[str] = field(default_factory=list)
    text: str = ""  # of what is not settled
    speech_end_ms: int = -1000

    @property
    def words(self) -> str:
        return as_written(" ".join(text for text in [*self.settled, self.text] if text))


class Scribe:
    """Of the pauses of a turn only the newest matters; what is settled and the ends of turns are never left out."""

    def __init__(self, listener: TextListener, to_text: Callable[[], SpeechToText], cut: CutSound) -> None:
        self._listener = listener
        self._to_text = to_text
        self._cut = cut
        self._newest: Heard | None = None
        self._finals: deque[tuple[Heard, bool]] = deque()
        self._turns: dict[int, _Turn] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="scribe", daemon=True)
        self._thread.start()

    def look_ahead(self, heard: Heard) -> None:
        """Somebody paused: perhaps that was all."""
        with self._changed:
            if heard.settled:
                self._finals.append((heard, False))
            else:
                self._newest = heard
            self._changed.notify()

    def finish(self, heard: Heard) -> bool:
        """That was all; False when too many turns wait."""
        with self._changed:
            if len(self._finals) >= FINALS:
                return False
            self._finals.append((heard, True))
            self._changed.notify()
            return True

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def join(self, timeout: float) -> bool:
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            heard, last = job
            try:
                self._write(heard, last)
            except Exception as error:
                self._turns.pop(heard.turn, None)
                self._listener.turn_not_understood(heard.turn, error)

    def _next(self) -> tuple[Heard, bool] | None:
        with self._changed:
            while not self._closed:
                if self._finals:
                    heard, last = self._finals.popleft()
                    if self._newest is not None and self._newest.turn == heard.turn:
                        self._newest = None
                    return heard, last
                if self._newest is not None:
                    heard, self._newest = self._newest, None
                    return heard, False
                self._changed.wait(POLL_SECONDS)
        return None

    def _write(self, heard: Heard, last: bool) -> None:
        turn = self._turns.setdefault(heard.turn, _Turn())
        if abs(turn.speech_end_ms - heard.speech_end_ms) > 1:  # else the last pause had all of it
            turn.text = self._text(heard) if heard.data else ""
            turn.speech_end_ms = heard.speech_end_ms
        if heard.settled:
            turn.settled.append(turn.text)
            turn.text = ""
        if not last:
            self._listener.partly_understood(heard.turn, turn.words, heard.speech_end_ms)
            return
        del self._turns[heard.turn]
        self._listener.turn_understood(heard.turn, turn.words)

    def _text(self, heard: Heard) -> str:
        """Listened to in pieces: engines leave out what is longer than they were made for."""
        engine = self._to_text()
        said = [engine.transcribe(piece).text.strip() for _, piece in self._cut(heard.format.decode(heard.data))]
        return " ".join(text for text in said if text)
