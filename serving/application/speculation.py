"""Speculative decoding: guess some tokens, and let one step of the model check all of them.

A decode reads every weight of the model to compute one token; computing five costs little more, as long as few sequences
run. So each decode gets guesses of what follows, the model computes them as if they were known, and the sampler chooses a
token at every position with the random number that the position has anyway. As long as it chooses what was guessed, the
next position was computed from the right tokens. The first other choice is the answer's next token, and the rest is
dropped (`Scheduler.complete`). So an answer consists of the very choices that would have been made one by one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

from serving.application.constraints import Constraints
from serving.application.ports import Drafter, Draw, Opening
from serving.domain.config import SchedulerConfig
from serving.domain.scheduler import Scheduler, Work
from serving.domain.sequence import Sequence as RunningSequence

log = logging.getLogger(__name__)


class Speculation:
    """Adds guesses to a step that is planned already, in what it leaves of the budget and of the pool.

    Belongs to the engine's thread. A drafter that fails is not asked again: everything goes on without guesses.
    `room`: tokens that a sequence may generate before its reader takes some.
    """

    def __init__(
        self,
        drafter: Drafter,
        scheduler: Scheduler,
        config: SchedulerConfig,
        constraints: Constraints,
        room: Callable[[RunningSequence], float] = lambda _: math.inf,
    ) -> None:
        self._drafter = drafter
        self._constraints = constraints
        self._scheduler = scheduler
        self._room = room
        self._most = config.num_speculative_tokens
        self._max_seqs = config.speculative_max_seqs
        self._broken = False

    def extend(self, work: list[Work]) -> list[Work]:
        """The same work, its decodes with guesses where there is room."""
        if self._broken or self._scheduler.num_running > self._max_seqs:
            return work
        openings = self._openings(work)
        if not openings:
            return work
        try:
            guesses = self._drafter.propose(list(openings.values()))
        except Exception:
            log.exception("guessing the next tokens failed; speculative decoding is off from now on")
            self._broken = True
            return work
        extended = list(work)
        for at, guess in zip(openings, guesses, strict=True):
            stops = work[at].sequence.request.sampling.stop_token_ids
            end = next((place for place, token in enumerate(guess) if token in stops), len(guess))
            # Nothing follows a stop token, and nothing follows what a grammar forbids: it will not be chosen.
            guess = self._constraints.agreeing(work[at].sequence, guess[:end])
            extended[at] = self._scheduler.speculate(work[at], guess)
        return extended

    def release(self, sequence_id: str) -> None:
        """A sequence gave its blocks up."""
        self._drafter.release(sequence_id)

    def _openings(self, work: Sequence[Work]) -> dict[int, Opening]:
        """What may be guessed, by place in `work`: only decodes, and nothing beyond the end of an answer or its room."""
        left = self._scheduler.limits.max_num_batched_tokens - sum(item.count for item in work)
        openings = {}
        for at, item in enumerate(work):
            sequence = item.sequence
            sampling = sequence.request.sampling
            most = min(self._most, left, sampling.max_tokens - sequence.generated - 1, self._room(sequence) - 1)
            if item.samples and item.count == 1 and most > 0:
                left -= most
                draw = Draw(sampling, sequence.seed, sequence.generated, sequence.tokens)
                openings[at] = Opening(sequence.id, draw, most)
        return openings
