"""The n-gram baseline: the most frequent continuation of the longest context that was ever seen."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.errors import LifecycleError
from lifecycle.evaluation.ngram import NGram, answer
from lifecycle.model.tokenizer import load_tokenizer


def by_hand(stream: list[int], context: list[int], order: int) -> int:
    """The same by looking through the whole stream."""
    for length in range(min(order - 1, len(context)), -1, -1):
        end = context[len(context) - length :]
        after = Counter(stream[at + length] for at in range(len(stream) - length) if stream[at : at + length] == end)
        if after:
            return min(after, key=lambda token: (-after[token], token))
    raise AssertionError


@given(st.lists(st.integers(0, 5), min_size=4, max_size=60), st.lists(st.integers(0, 5), max_size=6), st.integers(1, 4))
def test_the_next_token_is_the_one_found_by_hand(stream, context, order):
    assert NGram.fit(np.array(stream), 6, order).next(context) == by_hand(stream, context, order)


def test_a_text_that_was_seen_once_is_said_again():
    stream = np.array([0, 1, 2, 3, 4, 5, 0])
    assert NGram.fit(stream, 6, 3).continue_greedily([0, 1], most=10, stops=[0]) == [2, 3, 4, 5]
    assert NGram.fit(stream, 6, 3).continue_greedily([0, 1], most=2, stops=[0]) == [2, 3]


def test_grams_have_to_fit():
    with pytest.raises(LifecycleError, match="63 bits"):
        NGram.fit(np.arange(100), 2**16, 4)
    with pytest.raises(LifecycleError, match="too few"):
        NGram.fit(np.arange(2), 16, 4)


def test_answers_end_with_the_line_and_know_what_was_told(start):
    tokenizer = load_tokenizer(start.registry.load("tokenizer/1").path)
    model = NGram.of_texts(["Who is here?\nMia.\nWho is there?\nTom."] * 2, tokenizer)
    tasks = [{"skill": "reading", "messages": [{"role": "user", "content": f"Who is {where}?"}]} for where in ("here", "there")]
    assert answer(model, tokenizer, tasks) == ["Mia.", "Tom."]
