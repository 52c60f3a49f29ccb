"""Guesses by a smaller model with the same vocabulary, which has KV blocks of its own.

It chooses as the request does, with the same settings and the same random number at each position. So where both models
agree about the probabilities they agree about the token, at any temperature, and the answer depends on the seed alone.
Where they do not, a guess may fail a little more often than with rejection sampling (Leviathan et al., arXiv:2211.17192),
whose answers depend on what was guessed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from serving.application.ports import LIKELIEST, Draw, ModelBackend, Opening, Sampler, SequenceSlice
from serving.domain.blocks import BlockChain, BlockPool


@dataclass(slots=True)
class _Held:
    """What the blocks of a sequence hold: its first `known` tokens, and then tokens that were guesses."""

    known: int = 0
    guessed: list[int] = field(default_factory=list)

    def agree(self, tokens: Sequence[int]) -> int:
        """How many of `tokens` need not be computed; at least the last one does, for its logits."""
        for token in self.guessed:
            if self.known == len(tokens) or tokens[self.known] != token:
                break
            self.known += 1
        self.guessed.clear()
        self.known = min(self.known, len(tokens) - 1)
        return self.known


class DraftModel:
    """A `Drafter`. Owns its backend; call it from the engine's thread.

    vocab_size: the target's, beyond which nothing is guessed. context_length: the draft model's own. step_tokens: most tokens
    computed at once; a longer prompt takes several steps, and nothing is guessed for it until it is done.
    """

    def __init__(
        self, backend: ModelBackend, sampler: Sampler, *, vocab_size: int, context_length: int, step_tokens: int
    ) -> None:
        self._backend = backend
        self._sampler = sampler
        self._vocab_size = vocab_size
        self._wider = backend.vocab_size > vocab_size
        self._context_length = context_length
        self._step_tokens = step_tokens
        self._pool = BlockPool(backend.num_blocks, backend.block_size, prefix_caching=False, on_close=backend.release)
        self._held: OrderedDict[str, _Held] = OrderedDict()  # the one guessed for last is the last

    def propose(self, openings: Sequence[Opening]) -> list[Sequence[int]]:
        """One token of all sequences after the other, the first together with what is new since the last time."""
        guesses: list[list[int]] = [[] for _ in openings]
        for opening in openings:
            if opening.id not in self._held:
                self._held[opening.id] = _Held()
                self._pool.open(opening.id, BlockChain([], (), self._pool.block_size))
            self._held.move_to_end(opening.id)
        batch = self._catch_up(openings)
        for size in range(1, 1 + max(opening.most for opening in openings)):
            if not batch:
                break
            logits = self._backend.execute(list(batch.values()))
            going = [at for at, item in batch.items() if item.num_logits]
            if not going:
                break
            if self._wider:
                logits = logits[:, : self._vocab_size]
            draws = [self._draw(openings[at], guesses[at]) for at in going]
            for at, token in zip(going, self._sampler.sample(logits, draws), strict=True):
                guesses[at].append(token)
            batch = {at: self._next(openings[at], guesses[at]) for at in going if size < self._most(openings[at])}
        return guesses

    def release(self, sequence_id: str) -> None:
        """Forget a sequence."""
        if self._held.pop(sequence_id, None) is not None:
            self._pool.close(sequence_id)

    def _catch_up(self, openings: Sequence[Opening]) -> dict[int, SequenceSlice]:
        """What is not computed yet of each sequence, by place in `openings`; logits only where that is all of it."""
        left = self._step_tokens
        batch = {}
        for at, opening in enumerate(openings):
            held, tokens, most = self._held[opening.id], opening.draw.tokens, self._most(opening)
            start = held.agree(tokens)
            new = tokens[start : start + left]
            if most < 1 or not new or max(new) >= self._backend.vocab_size:  # such a token has no embedding here
                continue
            held_after = start + len(new)
            whole = held_after == len(tokens)
            if self._reserve(opening.id, held_after + (most - 1 if whole else 0), len(openings)):
                left -= len(new)
                held.known = held_after
                batch[at] = self._slice(opening, new, start, int(whole))
        return batch

    def _next(self, opening: Opening, guess: list[int]) -> SequenceSlice:
        self._held[opening.id].guessed.append(guess[-1])
        position = len(opening.draw.tokens) + len(guess) - 1
        return self._slice(opening, guess[-1:], position, 1)

    def _slice(self, opening: Opening, tokens: Sequence[int], start: int, num_logits: int) -> SequenceSlice:
        plain = LIKELIEST if opening.draw.sampling.likeliest_suffices and not self._wider else None
        return SequenceSlice(opening.id, tokens, start, self._pool.table(opening.id), num_logits, plain)

    def _most(self, opening: Opening) -> int:
        """The last guess is not computed, so it may stand one beyond the context."""
        return min(opening.most, self._context_length - len(opening.draw.tokens) + 1)

    def _draw(self, opening: Opening, guess: list[int]) -> Draw:
        draw = opening.draw.after(guess)
        if draw.sampling.logprobs is None:
            return draw
        return replace(draw, sampling=replace(draw.sampling, logprobs=None))  # nobody reads those of a guess

    def _reserve(self, sequence_id: str, num_tokens: int, in_use: int) -> bool:
        """Blocks for so many tokens, if need be those of whoever was guessed for least recently."""
        while not self._pool.grow(sequence_id, num_tokens):
            if len(self._held) <= in_use:
                return False
            self.release(next(iter(self._held)))
        return True
