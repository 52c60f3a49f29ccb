"""One planned step on the model, whatever happens in it: a failure costs the guilty request, never its batch mates."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from serving.application.constraints import Constraints
from serving.application.ports import Draw, ModelBackend, Sampler, SequenceSlice
from serving.domain.errors import GrammarTooComplex
from serving.domain.events import Event, PromptScored, TokenLogprob
from serving.domain.scheduler import Scheduler, Work
from serving.domain.sequence import Sequence as Running

log = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """What a step came to: the work that was computed, and what its clients are told."""

    work: list[Work]
    events: list[Event]


class Sampled(NamedTuple):
    """What a forward pass says: next tokens, and how likely the prompts' tokens are where somebody asked."""

    tokens: list[TokenLogprob | int]
    scores: list[TokenLogprob]


class StepRunner:
    """Turns scheduled work into a packed batch, tokens, and events. Belongs to the engine's thread."""

    def __init__(
        self, backend: ModelBackend, sampler: Sampler, scheduler: Scheduler, constraints: Constraints
    ) -> None:
        self._backend = backend
        self._sampler = sampler
        self._scheduler = scheduler
        self._constraints = constraints
        self.seconds = {"model": 0.0, "sampling": 0.0}
        """Spent so far."""

    def run(self, work: list[Work]) -> Outcome:
        """Compute a step. Out of memory: once more with half the tokens. Any other failure: one sequence at a time."""
        try:
            sampled = self._forward(work)
        except Exception as error:
            if not is_out_of_memory(error):
                return self._one_by_one(work, error)
            smaller = self._scheduler.shrink(work)
            log.warning(
                "out of memory in a step of %d tokens; from now on no step has more than %d",
                sum(item.size for item in work),
                self._scheduler.limits.max_num_batched_tokens,
            )
            return self._retry(smaller) if smaller else self._one_by_one(work, error)
        return Outcome(work, self._complete(work, sampled))

    def _retry(self, work: list[Work]) -> Outcome:
        try:
            sampled = self._forward(work)
        except Exception as error:
            return self._one_by_one(work, error)
        return Outcome(work, self._complete(work, sampled))

    def _one_by_one(self, work: list[Work], cause: Exception) -> Outcome:
        """Sequences that fail even alone, and without guesses, end with an error; the others go on."""
        if len(work) == 1 and not work[0].drafts and not work[0].ahead:
            return Outcome([], self._give_up(work[0], cause))
        log.warning("a step of %d sequences failed (%r); running them one at a time", len(work), cause)
        done = Outcome([], [])
        for item in work:
            item = item._replace(drafts=(), ahead=0)
            try:
                sampled = self._forward([item])
            except Exception as error:
                done.events.extend(self._give_up(item, error))
            else:
                done.work.append(item)
                done.events.extend(self._complete([item], sampled))
        return done

    def _give_up(self, item: Work, error: Exception) -> list[Event]:
        if isinstance(error, GrammarTooComplex):
            return self._scheduler.finish(item.sequence.id, "error", error.code)
        log.error('request "%s" failed', item.sequence.id, exc_info=error)
        message = f"internal error while computing this request: {type(error).__name__}"
        return self._scheduler.finish(item.sequence.id, "error", message)

    def _forward(self, work: Sequence[Work]) -> Sampled:
        batch, draws, drawn, known, rows = [], [], [], {}, 0
        for sequence, start, count, _, samples, drafts, ahead in work:
            tokens = sequence.tokens[start : start + count]
            table = self._scheduler.pool.table(sequence.id)
            sampling = sequence.request.sampling
            draw = Draw(sampling, sequence.seed, sequence.generated, sequence.tokens) if samples else None
            if draw:
                own = [draw, *(draw.after(drafts[:before]) for before in range(1, len(drafts) + 1))]
                draws += own if sampling.grammar is None else self._constrained(sequence, own, drafts)
                tokens += drafts
            chosen = wanted = samples + len(drafts)
            if unscored := sequence.unscored(start, count):
                wanted = start + count - unscored.start + len(drafts)
                for at, position in enumerate(unscored):
                    known[rows + at] = (sequence.tokens[position + 1], sampling.prompt_logprobs)
            rows += wanted
            drawn += range(rows - chosen, rows)
            batch.append(
                SequenceSlice(
                    sequence.id,
                    tokens,
                    start,
                    table,
                    wanted,
                    plain=draw.plain if draw else None,
                    ahead=ahead,
                    adapter=sequence.request.adapter,
                    media=sequence.request.media,
                    positions=sequence.request.positions,
                )
            )
        started = time.perf_counter()
        logits = self._backend.execute(batch)
        computed = time.perf_counter()
        scores: list[TokenLogprob] = []
        if known:
            scores, logits = self._sampler.score(logits, known, drawn)
        sampled = Sampled(self._sampler.sample(logits, draws) if draws else [], scores)
        self.seconds["model"] += computed - started
        self.seconds["sampling"] += time.perf_counter() - computed
        return sampled

    def _complete(self, work: list[Work], sampled: Sampled) -> list[Event]:
        """Book a step that ran; what it says about prompts comes first."""
        events: list[Event] = []
        scores = iter(sampled.scores)
        for item in work if sampled.scores else ():
            if unscored := item.sequence.unscored(item.start, item.count):
                events.append(PromptScored(item.sequence.id, tuple(islice(scores, len(unscored)))))
                item.sequence.scored = unscored.stop
        return events + self._scheduler.complete(work, sampled.tokens)

    def _constrained(self, sequence: Running, draws: list[Draw], drafts: Sequence[int]) -> list[Draw]:
        masks = self._constraints.masks(sequence, drafts)
        return [replace(draw, allowed=mask) for draw, mask in zip(draws, masks, strict=True)]


def is_out_of_memory(error: Exception) -> bool:
    """Whether a smaller step might succeed. torch has an error of its own on CUDA, on a CPU only a message; it is not imported here."""
    of_torch = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)
    return of_torch or isinstance(error, MemoryError)
