"""What a model thinks before it answers, told apart from the answer: `<think>...</think>` at its beginning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from serving.application.stop import overlap

BEGIN, END = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class Thought:
    """More of what is thought."""

    text: str


class Thoughts:
    """Splits an answer into thought and text, the same for every chunking; an answer without a thought passes as it is.

    `begun`: the prompt ends in the marker that begins a thought. One without an end takes all of the answer.
    """

    def __init__(self, begun: bool = False) -> None:
        self.inside = begun
        self._held: str | None = ""  # None once all is answer

    @property
    def over(self) -> bool:
        """Whether all that follows is answer."""
        return self._held is None

    def push(self, text: str) -> Iterator[str | Thought]:
        """What `text` completes, in order."""
        if self._held is None:
            if text:
                yield text
            return
        self._held += text
        if not self.inside and self._held.startswith(BEGIN):
            self.inside, self._held = True, self._held.removeprefix(BEGIN)
        if not self.inside:
            if not BEGIN.startswith(self._held):
                yield from self._answer(self._held)
            return
        thought, ended, answer = self._held.partition(END)
        if not ended:
            keep = overlap(self._held, END)
            thought, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        if thought:
            yield Thought(thought)
        if ended:
            yield from self._answer(answer)

    def flush(self) -> Iterator[str | Thought]:
        """What is left at the end."""
        held, inside = self._held, self.inside
        self.inside, self._held = False, None
        if held:
            yield Thought(held) if inside else held

    def _answer(self, text: str) -> Iterator[str]:
        self.inside, self._held = False, None
        if text:
            yield text
