"""The baseline that understands nothing: what usually follows the last few tokens.

An n-gram model with backoff (Katz, 1987, without the probabilities: only the likeliest token is ever asked for). It shows
which skills the text's surface already gives away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from lifecycle.errors import LifecycleError
from lifecycle.evaluation.answering import MAX_NEW_TOKENS, in_lines
from lifecycle.world.tasks import Task

NAME = "n-gram"
ORDER = 5
"""Tokens of a gram: four are looked at for the fifth."""
TEXTS_AT_ONCE = 4096


@dataclass(frozen=True)
class NGram:
    """For each length of context, sorted contexts (packed into 64-bit integers) and what followed each most often."""

    bits: int
    tables: tuple[tuple[np.ndarray, np.ndarray], ...]

    @classmethod
    def fit(cls, tokens: np.ndarray, vocab_size: int, order: int = ORDER) -> NGram:
        """Count in one stream of token ids [N]; raises LifecycleError when a gram does not fit into 63 bits."""
        bits = max(1, int(vocab_size - 1).bit_length())
        if bits * order > 63 or order < 1:
            raise LifecycleError(f"grams of {order} tokens out of {vocab_size} do not fit into 63 bits: take at most {63 // bits}")
        if len(tokens) < order:
            raise LifecycleError(f"{len(tokens)} tokens are too few for grams of {order}")
        return cls(bits, tuple(_table(tokens.astype(np.int64), length, bits) for length in range(order)))

    @classmethod
    def of_texts(cls, texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, order: int = ORDER) -> NGram:
        """Count in texts, each between two end-of-text tokens, as pretraining sees them."""
        texts, end = list(texts), tokenizer.eos_token_id
        pieces = [np.array([end])]
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            encoded = tokenizer(texts[start : start + TEXTS_AT_ONCE], add_special_tokens=False)["input_ids"]
            pieces += [np.array([*ids, end]) for ids in encoded]
        return cls.fit(np.concatenate(pieces), len(tokenizer), order)

    def next(self, context: Sequence[int]) -> int:
        """What followed most often after the longest end of `context` that was ever seen; ties go to the lower id."""
        for length in range(min(len(context), len(self.tables) - 1), -1, -1):
            contexts, followers = self.tables[length]
            packed = _pack(context[len(context) - length :], self.bits)
            at = int(np.searchsorted(contexts, packed))
            if at < len(contexts) and contexts[at] == packed:
                return int(followers[at])
        raise AssertionError("the empty context was seen")

    def continue_greedily(self, tokens: Sequence[int], most: int, stops: Sequence[int]) -> list[int]:
        """The likeliest next token again and again, until one of `stops` or `most` tokens."""
        written = list(tokens)
        for _ in range(most):
            if (token := self.next(written)) in stops:
                break
            written.append(token)
        return written[len(tokens) :]


def answer(model: NGram, tokenizer: PreTrainedTokenizerBase, tasks: Sequence[Task]) -> list[str]:
    """One answer per task, as a base model gives it: the line after the question."""
    line_end = tokenizer.encode("\n", add_special_tokens=False)[0]
    answers = []
    for task in tasks:
        prompt = [tokenizer.eos_token_id, *tokenizer.encode(in_lines(task["messages"]), add_special_tokens=False)]
        most = MAX_NEW_TOKENS.get(task["skill"], 48)
        answers.append(tokenizer.decode(model.continue_greedily(prompt, most, (line_end, tokenizer.eos_token_id))).strip())
    return answers


def _table(tokens: np.ndarray, length: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    grams = np.zeros(len(tokens) - length, dtype=np.int64)
    for place in range(length + 1):
        grams = (grams << bits) | tokens[place : len(tokens) - length + place]
    grams, counts = np.unique(grams, return_counts=True)
    contexts, followers = grams >> bits, grams & ((1 << bits) - 1)
    best = np.lexsort((followers, -counts, contexts))  # by context, then the most frequent, then the lowest id
    contexts, first = np.unique(contexts[best], return_index=True)
    return contexts, followers[best][first]


def _pack(tokens: Sequence[int], bits: int) -> int:
    packed = 0
    for token in tokens:
        packed = packed << bits | token
    return packed
