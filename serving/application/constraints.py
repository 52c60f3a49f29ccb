"""Constrained decoding: which tokens may come next in answers that must satisfy a grammar.

A matcher follows each such answer token by token. Before a step's tokens are drawn it says, for every token of the vocabulary,
whether some text of the grammar goes on with it; the sampler gives all others no probability. What is drawn is therefore
the model's own distribution without the impossible (a grammar never makes the model choose, it only forbids).

The matcher reads the tokens that the sequence has: so preemption, a step that runs twice, and guesses that turn out wrong
need nothing but the number of tokens that it has read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from serving.domain.errors import GrammarTooComplex
from serving.domain.grammar import Constraint
from serving.domain.sequence import Sequence as RunningSequence


class Matcher(Protocol):
    """Follows one answer. Belongs to one thread at a time."""

    def advance(self, tokens: Sequence[int]) -> None:
        """The answer goes on with these, which were allowed. Raises GrammarTooComplex."""

    def rewind(self, count: int) -> None:
        """Take the last `count` tokens back."""

    def agreeing(self, tokens: Sequence[int]) -> int:
        """How many of these may come next, one after the other."""

    def allowed(self) -> bytes:
        """One bit per token of the vocabulary, lowest bit first: 1 where it may come next.

        Never empty: stop tokens are allowed where a text may end, and only they where it must. Raises GrammarTooComplex.
        """


class GrammarCompiler(Protocol):
    """Turns grammars into matchers for one vocabulary. Safe from any thread; keeps what it has compiled."""

    requests: int
    """Matchers handed out so far."""
    seconds: float
    """Spent compiling so far."""

    def start(self, constraint: Constraint) -> Matcher:
        """A matcher at the beginning of an answer. Raises InvalidRequest, naming the field and what is wrong with it."""


@dataclass(slots=True)
class _Followed:
    matcher: Matcher
    read: int = 0  # generated tokens that the matcher has seen
    seconds: float = 0.0


class Constraints:
    """The matchers of the answers in an engine. Belongs to the engine's thread."""

    def __init__(self) -> None:
        self._followed: dict[str, _Followed] = {}
        self.seconds = 0.0
        """Spent on masks so far, following included."""

    def begin(self, sequence_id: str, matcher: Matcher) -> None:
        """This sequence is constrained from its first token on."""
        self._followed[sequence_id] = _Followed(matcher)

    def release(self, sequence_id: str) -> float:
        """A sequence has ended; the seconds that its masks took, 0 for an unknown one."""
        followed = self._followed.pop(sequence_id, None)
        return 0.0 if followed is None else followed.seconds

    def _spent(self, sequence_id: str, seconds: float) -> None:
        self.seconds += seconds
        self._followed[sequence_id].seconds += seconds

    def agreeing(self, sequence: RunningSequence, guess: Sequence[int]) -> Sequence[int]:
        """The guessed tokens up to the first that the grammar forbids; all of them where there is none."""
        if not guess or sequence.request.sampling.grammar is None:
            return guess
        started = time.perf_counter()
        try:
            count = self._catch_up(sequence).agreeing(guess)
        except GrammarTooComplex:
            count = 0  # the same will happen in the step, which knows how to end one sequence without the others
        self._spent(sequence.id, time.perf_counter() - started)
        return guess[:count]

    def masks(self, sequence: RunningSequence, drafts: Sequence[int] = ()) -> list[bytes | None]:
        """What may come next, and after each of the drafts, all of which the grammar allows; None where all may."""
        sampling = sequence.request.sampling
        if sampling.grammar is None:
            return [None] * (1 + len(drafts))
        started = time.perf_counter()
        matcher = self._catch_up(sequence)
        masks, read = [matcher.allowed()], 0
        try:
            for token in drafts:
                matcher.advance([token])
                read += 1
                masks.append(matcher.allowed())
        finally:
            matcher.rewind(read)
        early = sampling.min_tokens - sequence.generated
        masks = [_go_on(mask, sampling.stop_token_ids) if at < early else mask for at, mask in enumerate(masks)]
        self._spent(sequence.id, time.perf_counter() - started)
        return masks

    def _catch_up(self, sequence: RunningSequence) -> Matcher:
        followed = self._followed[sequence.id]
        if followed.read < sequence.generated:
            followed.matcher.advance(sequence.tokens[len(sequence.request.prompt_tokens) + followed.read :])
            followed.read = sequence.generated
        return followed.matcher


def _go_on(mask: bytes, stops: frozenset[int]) -> bytes:
    """No stop token, unless nothing else is allowed: `min_tokens` cannot make a grammar longer than it is."""
    known = {token for token in stops if token < 8 * len(mask)}  # whoever asks may name tokens that there are not
    going_on = int.from_bytes(mask, "little") & ~sum(1 << token for token in known)
    return going_on.to_bytes(len(mask), "little") if going_on else mask
