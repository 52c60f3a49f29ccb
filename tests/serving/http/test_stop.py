"""Stop strings: the stream equals the whole text cut at the first stop string to be completed."""

from hypothesis import given
from hypothesis import strategies as st
from scripted_engine import chunked

from serving.application.stop import StopStrings

ALPHABET = st.text(alphabet="abé", max_size=30)
STOPS = st.lists(st.text(alphabet="abé", min_size=1, max_size=5), min_size=1, max_size=4)


def cut_at_first_stop(text: str, stops: list[str]) -> str:
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))]
    return text


@given(ALPHABET, STOPS, st.lists(st.integers(0, 1000)))
def test_any_chunking_gives_the_text_cut_at_the_first_stop(text, stops, cuts):
    matcher = StopStrings(stops)
    sent = "".join(matcher.push(piece) for piece in chunked(text, cuts))
    if not matcher.stopped:
        sent += matcher.flush()
    assert sent == cut_at_first_stop(text, stops)
    assert matcher.flush() == ""


@given(ALPHABET, STOPS, st.lists(st.integers(0, 1000)))
def test_what_was_sent_is_always_a_beginning_of_the_answer(text, stops, cuts):
    matcher, answer, sent = StopStrings(stops), cut_at_first_stop(text, stops), ""
    for piece in chunked(text, cuts):
        sent += matcher.push(piece)
        assert answer.startswith(sent)


def test_only_what_may_become_a_stop_string_is_held_back():
    matcher = StopStrings(["<end>", "eno"])
    assert [matcher.push(piece) for piece in ("one <en", "x", " <e", "nd")] == ["one ", "<enx", " ", ""]
    assert matcher.flush() == "<end"


def test_a_stop_string_before_the_minimum_is_ordinary_text():
    matcher = StopStrings(["."])
    assert matcher.push("a.b", armed=False) == "a.b"
    assert matcher.push("c.d") == "c"
    assert matcher.stopped


def test_a_stop_string_that_began_before_the_minimum_still_counts():
    matcher = StopStrings(["END"])
    assert matcher.push("xEN", armed=False) == "x"
    assert matcher.push("D") == ""
    assert matcher.stopped


def test_a_stop_string_before_the_minimum_is_ordinary_text_even_if_it_begins_another():
    matcher = StopStrings(["\n", "\n\n"])
    assert matcher.push("a\n", armed=False) + matcher.push("b") == "a\nb"
    assert not matcher.stopped and matcher.push("c\n") == "c"
    assert matcher.stopped
