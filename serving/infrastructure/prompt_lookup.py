"""Guesses without a model: what followed the last tokens when they stood in the prompt or in the answer before.

Answers that quote, edit or list what is in their prompt repeat long stretches of it (prompt lookup decoding, Saxena, 2023).
"""

from __future__ import annotations

from collections.abc import Sequence

from serving.application.ports import Opening

CANDIDATES = 16
"""Earlier places compared at most: on repetitive text a run of tokens has been seen nearly everywhere."""


class PromptLookup:
    """A `Drafter`. At least the last `shortest` tokens must have been seen before; of several places the one counts that
    agrees in most of the last `longest` tokens, and of equal ones the latest.
    """

    def __init__(self, shortest: int, longest: int) -> None:
        self._shortest, self._longest = shortest, longest
        self._places: dict[str, Places] = {}

    def propose(self, openings: Sequence[Opening]) -> list[Sequence[int]]:
        """What stood there; a text that repeats itself is continued in its own period."""
        return [self._propose(opening) for opening in openings]

    def release(self, sequence_id: str) -> None:
        """Forget a sequence."""
        self._places.pop(sequence_id, None)

    def _propose(self, opening: Opening) -> Sequence[int]:
        places = self._places.get(opening.id)
        if places is None:
            places = self._places[opening.id] = Places(opening.draw.tokens, self._shortest)
        place = places.find(self._longest)
        if place is None:
            return ()
        tokens = opening.draw.tokens
        period = len(tokens) - place
        return [tokens[place + at % period] for at in range(opening.most)]


class Places:
    """Where each run of `size` tokens ends in a growing list: the latest end, and from every end the one before it.

    A new token costs one entry, however long the text is: these are LZ77's hash chains.
    """

    def __init__(self, tokens: Sequence[int], size: int) -> None:
        self._tokens = tokens
        self._size = size
        self._latest: dict[tuple[int, ...], int] = {}
        self._earlier: list[int | None] = []  # of the run that ends at `size` + index
        self._end = size

    def find(self, longest: int) -> int | None:
        """The place after the best earlier match for the last `size` to `longest` tokens."""
        self._catch_up()
        tokens, size, end = self._tokens, self._size, len(self._tokens)
        place = self._latest.get(tuple(tokens[end - size :])) if end >= size else None
        best, most = None, 0
        for _ in range(CANDIDATES):
            if place is None:
                break
            same = size
            while same < min(longest, place) and tokens[place - same - 1] == tokens[end - same - 1]:
                same += 1
            if same > most:
                best, most = place, same
            if same == longest:
                break
            place = self._earlier[place - size]
        return best

    def _catch_up(self) -> None:
        """Enter every run but the last, which is what is looked for."""
        for end in range(self._end, len(self._tokens)):
            run = tuple(self._tokens[end - self._size : end])
            self._earlier.append(self._latest.get(run))
            self._latest[run] = end
        self._end = max(self._end, len(self._tokens))
