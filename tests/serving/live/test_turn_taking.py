"""When turns begin and end, whatever the probabilities are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.domain.turn_taking import TurnRules, TurnTaking, by_words

WINDOW = 0.032


def changes(taking: TurnTaking, *probabilities: float) -> list[tuple[int, str]]:
    found = [(at, taking.push(one, WINDOW)) for at, one in enumerate(probabilities)]
    return [(at, change) for at, change in found if change]


def test_a_click_is_no_turn_and_speech_is_one():
    taking = TurnTaking(TurnRules())
    assert changes(taking, 0, 1, 0, 1, 1, 0) == []
    assert changes(taking, 1, 1, 1, 1) == [(2, "started")]


def test_a_turn_ends_with_the_silence_of_its_rules():
    taking = TurnTaking(TurnRules(silence=0.32))
    assert changes(taking, *[1] * 5, *[0] * 9, 1, *[0] * 12) == [(2, "started"), (24, "stopped")]


@pytest.mark.parametrize(("text", "windows"), [("What is two and two?", 13), ("What is", 38), ("", 13)])
def test_whoever_stops_in_the_middle_of_a_sentence_may_go_on(text, windows):
    taking = TurnTaking(by_words("auto"))
    changes(taking, *[1] * 5)
    taking.heard(text)
    assert changes(taking, *[0] * 100)[0][0] + 1 == windows


@given(st.lists(st.floats(0, 1), max_size=200))
def test_started_and_stopped_take_turns(probabilities):
    taking = TurnTaking(TurnRules(silence=0.1))
    words = [word for _, word in changes(taking, *probabilities)]
    assert words == ["started", "stopped"] * (len(words) // 2) + ["started"] * (len(words) % 2)
    assert taking.speaking == bool(len(words) % 2)


@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.2])
def test_silence_is_silence_however_low_the_threshold_is(threshold):
    taking = TurnTaking(TurnRules(threshold=threshold, silence=0.32))
    assert [change for _, change in changes(taking, *[1] * 5, *[0.01] * 15)] == ["started", "stopped"]


@pytest.mark.parametrize("rules", [{"threshold": 0}, {"threshold": 1}, {"silence": -1}])
def test_rules_that_cannot_work_are_refused(rules):
    with pytest.raises(ValueError, match="must"):
        TurnRules(**rules)
