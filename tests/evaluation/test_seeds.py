"""Several seeds on one card: two intervals for two questions, and a verdict on every stage's target."""

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.evaluation.improvement import TARGETS, improvements
from lifecycle.evaluation.seeds import LORA, members, summarise, to_markdown
from lifecycle.evaluation.statistics import student, wilson
from lifecycle.world.tasks import SKILLS


def verdicts(share: float, n: int, rng: random.Random) -> list[bool]:
    return [rng.random() < share for _ in range(n)]


def test_one_seed_has_wilsons_interval_and_none_over_seeds():
    right = [True] * 81 + [False] * 182
    one = summarise("SFT", "sums", {0: right}, 0.1)
    assert (one.low, one.high) == pytest.approx(wilson(81, 263), abs=1e-3)
    assert one.seed_low is one.seed_high is None and one.n == 263 and one.seeds == (0,)


def test_answers_that_repeat_each_other_are_no_further_evidence():
    right = verdicts(0.4, 300, random.Random(0))
    once, thrice = (summarise("SFT", "sums", dict.fromkeys(seeds, right), 0.1) for seeds in ((0,), (0, 1, 2)))
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high), abs=1e-3)
    assert thrice.seed_low == pytest.approx(thrice.mean) == pytest.approx(thrice.seed_high)  # no luck in it


def test_independent_answers_narrow_the_interval_as_they_should():
    rng = random.Random(0)
    many = summarise("SFT", "sums", {seed: verdicts(0.5, 400, rng) for seed in range(4)}, 0.1)
    low, high = wilson(many.mean * 1600, 1600)
    assert many.high - many.low == pytest.approx(high - low, rel=0.15)


def test_the_interval_over_seeds_is_students():
    shares = {0: 50, 1: 60, 2: 55}
    one = summarise("SFT", "sums", {seed: [at < hits for at in range(100)] for seed, hits in shares.items()}, 0.1)
    half = 4.303 * statistics.stdev([0.5, 0.6, 0.55]) / math.sqrt(3)
    assert (one.seed_low, one.seed_high) == pytest.approx((0.55 - half, 0.55 + half))


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=4))
def test_an_interval_holds_its_mean_and_lies_in_0_to_1(rows):
    one = summarise("SFT", "sums", dict(enumerate(rows)), 0.1)
    assert 0 <= one.low <= one.mean + 1e-12 and one.mean - 1e-12 <= one.high <= 1
    if len(rows) > 1:
        assert 0 <= one.seed_low <= one.mean + 1e-12 and one.mean - 1e-12 <= one.seed_high <= 1


@pytest.mark.parametrize(("freedom", "known"), [(1, 12.706), (10, 2.228), (11, 2.201), (20, 2.086), (30, 2.042), (120, 1.980)])
def test_students_quantiles_are_those_of_the_tables(freedom, known):
    assert student(freedom) == pytest.approx(known, abs=3e-3)


def test_of_each_seed_the_newest_whole_run_is_compared(start):
    def publish(stage: str, *parents, seed: int = 0, preset: str = "tiny", method: str = "full"):
        write = lambda directory: (directory / "weights").write_text("none")  # noqa: E731
        return start.registry.publish(stage, write, parents=parents, preset=preset, seed=seed, config={"method": method})

    for seed in (0, 1):
        base = publish("pretrain", seed=seed)
        publish("sft", base, seed=seed, method="lora")
        chatting = publish("sft", base, seed=seed)
    whole = publish("rlhf", publish("rlhf-dpo", chatting, seed=1), publish("rlhf-reward", chatting, seed=1), seed=1)
    publish("rlhf-dpo", whole, seed=1)  # what people liked better, later
    publish("sft", publish("pretrain", preset="laptop"), preset="laptop")
    found = {name: {seed: one.ref for seed, one in of.items()} for name, of in members(start.registry, "tiny").items()}
    assert found == {
        "base": {0: "pretrain/1", 1: "pretrain/2"},
        LORA: {0: "sft/1", 1: "sft/3"},
        "SFT": {0: "sft/2", 1: "sft/4"},
        "DPO": {1: "rlhf-dpo/1"},
        "GRPO": {1: "rlhf/1"},
    }
    assert list(found) == ["base", LORA, "SFT", "DPO", "GRPO"]
    assert members(start.registry, "gpu") == {}


def summaries(**hits: int):
    """Each kind of model with so many right answers of 300 in every target."""
    rows = [(name, [at < right for at in range(300)]) for name, right in hits.items()]
    skills = {target.skill for target in TARGETS.values()}
    return [summarise(name, skill, {0: right}, 0.0) for name, right in rows for skill in skills]


def test_a_stage_that_is_better_by_luck_has_not_improved():
    found = improvements(summaries(base=0, SFT=100, DPO=104, GRPO=200))
    assert [(one.model, one.beyond_noise) for one in found] == [("SFT", True), ("DPO", False), ("GRPO", True)]
    assert str(found[1]).endswith("35%, not better beyond noise")


def test_what_was_not_measured_is_not_judged():
    assert [one.model for one in improvements(summaries(base=0, SFT=100, GRPO=200))] == ["SFT"]
    assert {target.skill for target in TARGETS.values()} <= set(SKILLS)


def test_a_table_shows_both_intervals_and_leaves_a_gap_for_what_is_missing():
    both = [summarise("SFT", "sums", {0: [True, False], 1: [True, True]}, 0.25), summarise("base", "reading", {0: [True]}, 0.5)]
    lines = to_markdown(both).splitlines()
    assert lines[0] == "| skill | SFT | base | chance |"
    assert "75% (" in lines[2] and "; seeds 0% to 100%)" in lines[2] and lines[2].endswith("|  | 25% |")
