"""Stop strings in a stream: text that may still become one is held back until it does or cannot any more."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Cuts a stream of text at the first stop string to be completed.

    The result depends on the text alone, never on how it was cut into pieces. Of two stop strings that are
    completed by the same character the longer one counts.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def push(self, text: str, *, armed: bool = True) -> str:
        """Text that is now certain to be part of the answer; nothing follows once `stopped` is true.

        A stop string that is completed while not `armed` is ordinary text.
        """
        if self.stopped or not self._stops:
            return "" if self.stopped else text
        known = len(self._held)
        self._held += text
        cut = self._first_completed(known) if armed else None
        if cut is not None:
            self.stopped = True
            safe, self._held = self._held[:cut], ""
            return safe
        keep = max(overlap(self._held, stop) for stop in self._stops)
        safe, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return safe

    def flush(self) -> str:
        """What was held back when the answer ended without a stop string."""
        held, self._held = self._held, ""
        return held

    def _first_completed(self, known: int) -> int | None:
        """Where the stop string that ends first begins, of those that end behind the `known` characters, if there is one."""
        ends = ((stop, self._held.find(stop, max(0, known + 1 - len(stop)))) for stop in self._stops)
        found = [(at + len(stop), at) for stop, at in ends if at >= 0]
        return min(found)[1] if found else None


def overlap(text: str, marker: str) -> int:
    """How many characters at the end of `text` are a proper beginning of `marker`."""
    for size in range(min(len(text), len(marker) - 1), 0, -1):
        if text.endswith(marker[:size]):
            return size
    return 0
