"""PromptLookup: what followed before, the longest match first, and little work per token."""

from __future__ import annotations

import random

from serving.application.ports import Draw, Opening
from serving.domain.request import SamplingParams
from serving.infrastructure.prompt_lookup import CANDIDATES, Places, PromptLookup


def lookup(tokens, most=3, shortest=2, longest=4):
    (guess,) = PromptLookup(shortest, longest).propose([Opening("a", Draw(SamplingParams(), 0, 0, tokens), most)])
    return list(guess)


def test_what_followed_before_follows_again():
    assert lookup([1, 2, 3, 4, 5, 9, 1, 2]) == [3, 4, 5]
    assert lookup([1, 2, 3, 4, 5, 9, 1, 2], most=1) == [3]


def test_nothing_is_guessed_without_a_match():
    for tokens in ([], [1], [1, 2], [1, 2, 3], [1, 2, 3, 9, 2, 1]):
        assert lookup(tokens) == []
    assert lookup([7, 7], shortest=1) == [7, 7, 7]


def test_the_longest_match_counts_and_of_equal_ones_the_latest():
    assert lookup([1, 2, 3, 50, 8, 2, 3, 60, 1, 2, 3], most=1) == [50]
    assert lookup([2, 3, 50, 8, 2, 3, 60, 9, 2, 3], most=1) == [60]
    assert lookup([1, 2, 3, 50, 2, 3, 60, 1, 2, 3], most=1, longest=2) == [60], "no more tokens are compared"


def test_a_loop_goes_on_in_its_own_period():
    assert lookup([5, 1, 2, 3, 1, 2, 3], most=8) == [1, 2, 3, 1, 2, 3, 1, 2]
    assert lookup([5, 5, 5], most=4) == [5, 5, 5, 5]


def test_a_growing_text_is_looked_up_like_a_fresh_one():
    rng = random.Random(0)
    for size, longest in ((1, 1), (1, 3), (2, 5), (3, 3)):
        drafter, tokens = PromptLookup(size, longest), []
        opening = Opening("a", Draw(SamplingParams(), 0, 0, tokens), 4)
        for _ in range(300):
            tokens += [rng.randrange(3) for _ in range(rng.randint(1, 3))]
            assert list(drafter.propose([opening])[0]) == lookup(list(tokens), 4, size, longest)
        drafter.release("a")
        drafter.release("a")
        assert not drafter._places


def by_hand(tokens, size, longest):
    """The place after the best of the latest `CANDIDATES` matches, by comparing everything."""
    end = len(tokens)
    matches = []
    for place in range(end - 1, size - 1, -1):
        same = 0
        while same < min(longest, place) and tokens[place - same - 1] == tokens[end - same - 1]:
            same += 1
        if same >= size:
            matches.append((same, place))
    return max(matches[:CANDIDATES], default=(0, None))[1]


def test_the_chains_find_what_comparing_everything_finds():
    rng = random.Random(1)
    for _ in range(300):
        tokens = [rng.randrange(3) for _ in range(rng.randint(2, 40))]
        size = rng.randint(1, 3)
        longest = rng.randint(size, 6)
        assert Places(tokens, size).find(longest) == by_hand(tokens, size, longest)


def test_a_new_token_costs_the_same_however_long_the_text_is():
    class Counting(list):
        reads = 0

        def __getitem__(self, at):
            Counting.reads += 1
            return super().__getitem__(at)

    tokens = Counting([1, 2] * 5000)
    places = Places(tokens, 2)
    places.find(4)
    Counting.reads = 0
    tokens.append(1)
    places.find(4)
    assert Counting.reads < 10 + 8 * CANDIDATES
