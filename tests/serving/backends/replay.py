"""Sequences through a backend in all the ways an engine may take them, against the logits of each alone."""

from __future__ import annotations

import random

import torch

from serving.application.ports import SequenceSlice

from .families import VOCAB

BLOCK = 4
BLOCKS = 96


def alone(model, tokens):
    """[tokens, vocab] by transformers' own eager attention, without cache or batch."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        logits = model(torch.tensor([tokens]), use_cache=False).logits[0]
    model.set_attn_implementation(before)
    return logits


class Replay:
    """Five sequences in random chunks, random order and scattered blocks; the last two begin like the first.

    Sequences are preempted at random: their blocks go to others, and they start over. A backend that shares prefixes gets
    the later two with the first one's blocks already computed.
    """

    def __init__(self, model, backend, seed: int) -> None:
        self.rng = random.Random(seed)
        self.model, self.backend = model, backend
        self.free = self.rng.sample(range(BLOCKS), BLOCKS)
        draw = self.rng.randrange
        self.tokens = [[draw(VOCAB) for _ in range(draw(6, 36))] for _ in range(3)]
        self.tokens += [self.tokens[0] + [draw(VOCAB) for _ in range(draw(3, 12))] for _ in range(2)]
        self.expected = [alone(model, tokens) for tokens in self.tokens]
        self.computed = [0] * 5
        self.tables: list[list[int]] = [[] for _ in range(5)]
        self.worst = 0.0
        self.hits = self.preemptions = 0

    def run(self) -> float:
        """Largest absolute difference of a logit."""
        for group in ((0, 1, 2), (0, 1, 2, 3, 4)):
            if len(group) == 5:
                self._hit_prefix()
            while behind := [which for which in group if self.computed[which] < len(self.tokens[which])]:
                if self.rng.random() < 0.1 and self.preemptions < 3:
                    self._preempt(self.rng.choice(behind))
                self._step(self.rng.sample(behind, len(behind)))
        return self.worst

    def _step(self, order: list[int]) -> None:
        batch, wanted = [], []
        for which in order:
            left = len(self.tokens[which]) - self.computed[which]
            count = min(left, self.rng.choice((0, 1, 1, 1, 2, 9)))
            if count:
                start, stop = self.computed[which], self.computed[which] + count
                while len(self.tables[which]) * BLOCK < stop:
                    self.tables[which].append(self.free.pop())
                needs = min(count, int(4 * self.rng.random()))
                chunk = self.tokens[which][start:stop]
                batch.append(SequenceSlice(str(which), chunk, start, self.tables[which], needs))
                wanted += self.expected[which][stop - needs : stop]
                self.computed[which] = stop
        if batch:
            logits = self.backend.execute(batch)
            assert logits.shape == (len(wanted), VOCAB)
            if wanted:
                self.worst = max(self.worst, (logits - torch.stack(wanted)).abs().max().item())

    def _hit_prefix(self) -> None:
        if self.backend.shares_prefixes:
            shared = len(self.tokens[0]) // BLOCK
            for which in (3, 4):
                self.tables[which] = self.tables[0][:shared]
                self.computed[which] = shared * BLOCK
                self.hits += shared

    def _preempt(self, which: int) -> None:
        self.backend.release(str(which))
        self.free = self.tables[which] + self.free if which < 3 else self.free
        self.tables[which], self.computed[which] = [], 0
        self.preemptions += 1
