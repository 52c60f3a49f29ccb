"""Where the events of one request wait for its client. Bounded, so that the engine never waits for anybody."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from serving.domain.events import Event, Finished, PromptScored, TokenLogprob, TokensGenerated


class Mailbox:
    """A `TokenStream`. The engine puts, one consumer takes; tokens that nobody has taken yet melt into one event.

    `capacity` counts unread tokens; `opened` is when the request came, in seconds of the engine's clock.
    """

    def __init__(self, request_id: str, capacity: int, cancel: Callable[[str], None], *, opened: float = 0.0) -> None:
        self.opened = opened
        self._request_id = request_id
        self._capacity = capacity
        self._cancel = cancel
        self._tokens: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._prompt: list[TokenLogprob] = []  # bounded by the prompt
        self._finished: Finished | None = None
        self._overflown = False
        self._changed = threading.Condition()

    @property
    def unread(self) -> int:
        """Tokens that nobody has taken yet."""
        return len(self._tokens)

    def put(self, event: Event) -> bool:
        """False when the consumer has left `capacity` tokens unread: the event is dropped, the end will be an error."""
        with self._changed:
            if isinstance(event, Finished):
                # An answer with a hole in it must not look complete, even if these were its last tokens.
                self._finished = replace(event, reason="error", error="slow_consumer") if self._overflown else event
            elif isinstance(event, PromptScored):
                self._prompt += event.logprobs
            elif len(self._tokens) + len(event.tokens) > self._capacity:
                self._overflown = True
                return False
            else:
                self._tokens += event.tokens
                self._logprobs += event.logprobs
            self._changed.notify()
        return True

    def next(self, timeout: float) -> list[Event]:
        """All events since the last call; waits up to `timeout` seconds for the first."""
        with self._changed:
            self._changed.wait_for(lambda: self._prompt or self._tokens or self._finished, timeout)
            events: list[Event] = []
            if self._prompt:
                events.append(PromptScored(self._request_id, tuple(self._prompt)))
                self._prompt = []
            if self._tokens:
                events.append(TokensGenerated(self._request_id, tuple(self._tokens), tuple(self._logprobs)))
                self._tokens, self._logprobs = [], []
            if self._finished:
                events.append(self._finished)
                self._finished = None
            return events

    def cancel(self) -> None:
        self._cancel(self._request_id)
