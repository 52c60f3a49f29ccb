"""Guesses, right or wrong, change no answer under any policy and load, and take no memory and no budget from anybody."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .support import BLOCK, POLICIES, VOCAB, Driver, next_token, prompt_of
from .test_properties import operations, play


class Guesser:
    """A `Drafter` that knows the model of hashes and is right about each token with probability `skill`."""

    def __init__(self, skill: float, seed: int = 0) -> None:
        self.skill = skill
        self.rng = random.Random(seed)
        self.followed: set[str] = set()

    def propose(self, openings):
        return [self._guess(opening) for opening in openings]

    def release(self, sequence_id):
        self.followed.discard(sequence_id)

    def _guess(self, opening):
        self.followed.add(opening.id)
        tokens = list(opening.draw.tokens)
        guess = []
        for _ in range(self.rng.randint(0, opening.most)):
            right = next_token(tokens)
            guess.append(right if self.rng.random() < self.skill else (right + 1) % VOCAB)
            tokens.append(guess[-1])
        return guess


@pytest.mark.parametrize("policy", POLICIES)
@given(
    script=operations,
    num_blocks=st.integers(11, 40),
    chunk=st.sampled_from((0, 1, 5)),
    skill=st.sampled_from((0.0, 0.5, 0.9, 1.0)),
    most=st.integers(1, 7),
    max_seqs=st.integers(1, 4),
)
@settings(max_examples=40, deadline=None)
def test_batched_equals_alone_with_any_guesses(policy, script, num_blocks, chunk, skill, most, max_seqs):
    guesser = Guesser(skill)
    driver = Driver(
        policy,
        num_blocks,
        guesser,
        prefill_chunk=chunk,
        num_speculative_tokens=most,
        speculative_max_seqs=max_seqs,
        watermark=0.0,
    )
    play(driver, script)
    driver.finish()
    driver.check()
    counters = driver.scheduler.counters
    assert counters.accepted_tokens <= counters.draft_tokens
    assert skill or not counters.accepted_tokens
    assert skill < 1 or counters.accepted_tokens == counters.draft_tokens
    assert not guesser.followed, "whoever ended is forgotten"


def test_ten_thousand_operations_with_guesses():
    rng, driver = random.Random(6), Driver(num_blocks=24, drafter=Guesser(0.7), watermark=0.0)
    for _ in range(10_000):
        action = rng.random()
        if action < 0.25 and driver.scheduler.num_waiting < 12:
            prompt = prompt_of(rng.randrange(4), rng.randint(1, 30))
            driver.submit(prompt, rng.randint(1, 12), tenant=rng.choice("ab"), priority=rng.randrange(3))
        elif action < 0.30 and driver.asked:
            driver.cancel(str(rng.randrange(max(0, len(driver.asked) - 20), len(driver.asked))))
        elif action < 0.302:
            driver.scheduler.restart_all()
            driver.backend.update_weights({})
        else:
            driver.step()
        for sequence in driver.scheduler._running.values():
            held = len(driver.scheduler.pool.table(sequence.id))
            assert held <= driver.scheduler.pool.blocks_for(sequence.target), "wrong guesses gave their blocks back"
    driver.finish()
    driver.check()
    counters = driver.scheduler.counters
    assert counters.preemptions > 20 and counters.cached_tokens > 1000 and counters.accepted_tokens > 1000


def test_the_prefix_cache_holds_what_was_answered_and_not_what_was_guessed():
    driver = Driver(drafter=Guesser(0.6), num_speculative_tokens=7)
    for family in range(20):
        first = driver.submit(prompt_of(family, 9), 23)
        driver.finish()
        again = [*prompt_of(family, 9), *driver.answers[first]]
        second = driver.submit(again, 5)
        driver.finish()
        assert driver.cached[second] >= len(again) - 2 * BLOCK
    driver.check()


def test_right_guesses_save_steps_and_are_counted():
    reports = {}
    for skill in (0.0, 1.0):
        driver = Driver(drafter=Guesser(skill), num_speculative_tokens=3)
        driver.submit(prompt_of(0, 6), 30)
        reports[skill] = []
        while driver.busy:
            reports[skill].append(driver.step())
        driver.check()
        work = [item for report in reports[skill] for item in report.work]
        counters = driver.scheduler.counters
        assert sum(item.drafted for item in work) == counters.draft_tokens > 0
        assert sum(item.accepted for item in work) == counters.accepted_tokens
        assert sum(item.served for item in work) == 6 + 29, "the last token of an answer is never computed"
    assert len(reports[0.0]) == 30 and len(reports[1.0]) < 20


def test_nothing_is_guessed_beyond_the_end_of_an_answer_or_of_the_budget():
    driver = Driver(drafter=Guesser(1.0), max_num_seqs=4, max_num_batched_tokens=5, num_speculative_tokens=7)
    for family in range(4):
        driver.submit(prompt_of(family, 2), 9)
    while driver.busy:
        report = driver.step()
        assert report.tokens <= 5
        for item in report.work:
            asked = driver.asked[item.id].request
            assert item.start + item.tokens < len(asked.prompt_tokens) + asked.sampling.max_tokens
    driver.check()


def test_nobody_guesses_while_more_sequences_run_than_allowed():
    driver = Driver(drafter=Guesser(1.0), speculative_max_seqs=2)
    for length in (4, 8, 12):
        driver.submit(prompt_of(0, 4), length)
    drafted = {1: 0, 2: 0, 3: 0}
    while driver.busy:
        running = driver.scheduler.num_running or 3
        drafted[running] += sum(item.drafted for item in driver.step().work)
    assert drafted[3] == 0 and drafted[2] > 0 and drafted[1] > 0


def test_a_tenant_pays_for_what_it_got_and_not_for_wrong_guesses():
    levels = []
    for drafter in (None, Guesser(0.5)):
        driver = Driver("fair", drafter=drafter)
        driver.submit(prompt_of(0, 6), 12, tenant="a")
        driver.submit(prompt_of(1, 6), 12, tenant="b")
        driver.finish()
        served = next(learner for learner in driver.scheduler.policy.learners if hasattr(learner, "level"))
        levels.append((served.level("a"), served.level("b")))
    assert levels[0] == levels[1]
