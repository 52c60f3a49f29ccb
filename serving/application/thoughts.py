"""What a model thinks before it answers is not said aloud."""

from __future__ import annotations

BEGIN, END = "<think>", "</think>"


class AfterThought:
    """The answer that follows a thought, piece by piece; a text without a thought passes as it is."""

    def __init__(self) -> None:
        self._held: str | None = ""

    def push(self, text: str) -> str:
        """What is certain to be answer."""
        if self._held is None:
            return text
        self._held += text
        if self._held.startswith(BEGIN):
            _, ended, answer = self._held.partition(END)
            if not ended:
                return ""
        elif BEGIN.startswith(self._held):
            return ""
        else:
            answer = self._held
        self._held = None
        return answer

    def flush(self) -> str:
        """What is left at the end: a thought without an end is none that anybody hears."""
        held, self._held = self._held, None
        return held if held and not held.startswith(BEGIN) else ""


def after_thought(text: str) -> str:
    """The same of a whole answer."""
    spoken = AfterThought()
    return spoken.push(text) + spoken.flush()
