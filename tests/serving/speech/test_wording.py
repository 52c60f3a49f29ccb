"""Text becomes words, words become sounds, and a stream of text becomes sentences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.application.sentences import LONGEST, Sentences, sentences
from serving.infrastructure.speech.letters import RULES, guess
from serving.infrastructure.speech.phonemes import SOUNDS, Phonemes
from serving.infrastructure.speech.wording import cardinal, ordinal, spoken_words


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("What is 17 + 25?", "What is seventeen plus twenty five ?"),
        ("12 - 5 = 7.", "twelve minus five equals seven ."),
        ("It is -3 degrees.", "It is minus three degrees."),
        ("3.14 is near pi.", "three point one four is near pi."),
        ("1,234,567 people", "one million two hundred thirty four thousand five hundred sixty seven people"),
        ("In 1984, in 1905 and in 2026.", "In nineteen eighty four , in nineteen oh five and in two thousand twenty six ."),
        ("the 21st of May", "the twenty first of May"),
        ("It costs $5.20, not $1.", "It costs five dollars and twenty cents, not one dollar."),
        ("Dr. Smith met Mrs. Jones.", "doctor Smith met missus Jones."),
        ("at 10:05", "at ten oh five"),
        ("50% of NASA & the U.S.A.", "fifty percent of NASA and the U S A"),
        ("**Bold** and `code`", "Bold and code"),
        ("ſt. Peter", "ſt. Peter"),
        ("0042", "zero zero four two"),
        ("9" * 20, " ".join(["nine"] * 20)),
    ],
)
def test_what_is_written_is_said(written, said):
    assert spoken_words(written).split() == said.split() or spoken_words(written).replace(" ", "") == said.replace(" ", "")


@given(st.integers(0, 10**15 - 1))
def test_every_number_has_a_name_without_figures(number):
    assert not set(cardinal(number)) & set("0123456789")
    assert ordinal(number).split()[:-1] == cardinal(number).split()[:-1]


@given(st.text(max_size=400))
def test_no_text_breaks_the_wording(text):
    assert not set("0123456789") & set(spoken_words(text))


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz'", max_size=30))
def test_every_word_can_be_guessed_in_sounds_that_there_are(word):
    for sound in guess(word):
        assert sound.rstrip("012") in SOUNDS
    assert bool(guess(word)) or not word.strip("'") or set(word) <= set("e'")


def test_rules_speak_of_known_sounds_only():
    assert {sound for *_, sounds in RULES for sound in sounds} <= set(SOUNDS)


@pytest.fixture
def phonemes(tmp_path):
    lines = {"hello": "HH AH0 L OW1", "water": "W AO1 T ER0", "apple": "AE1 P AH0 L", "box": "B AA1 K S", "make": "M EY1 K", "the": "DH AH0"}
    (tmp_path / "d").write_text("".join(f"{word}\t{sounds}\n" for word, sounds in lines.items()))
    return Phonemes(tmp_path / "d")


@pytest.mark.parametrize(
    ("text", "signs"),
    [
        ("Hello.", "həlˈO."),
        ("water", "wˈɔTəɹ"),
        ("the box", "ðə bˈɑks"),
        ("The apple", "ði ˈæpəl"),
        ("boxs", "bˈɑksɪz"),
        ("making", "mˈAkɪŋ"),
        ("applebox", "ˈæpəlbˌɑks"),
        ("...", ""),
        ("", ""),
        ("?!", ""),
    ],
)
def test_words_become_signs_with_stress_before_the_vowel(phonemes, text, signs):
    assert phonemes(text) == signs


def pieces(text, sizes, *rules):
    """What becomes of a text that arrives in pieces of those sizes, and then the rest."""
    cutter, found, at = Sentences(*rules), [], 0
    for size in [*sizes, len(text)]:
        found += cutter.push(text[at : at + size])
        at += size
    return [*found, *filter(None, [cutter.flush()])]


@given(st.text(max_size=600), st.lists(st.integers(1, 40), max_size=20))
def test_sentences_lose_nothing_and_are_short(text, sizes):
    found = pieces(text, sizes)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(len(one) <= LONGEST + 1 for one in found if "." not in one)


def test_full_stops_that_end_nothing_do_not_cut():
    assert list(sentences("Dr. Smith has 3.5 apples. He eats, e.g. one! Really?\nYes")) == [
        "Dr. Smith has 3.5 apples.", "He eats, e.g. one!", "Really?", "Yes",
    ]


SPOKEN = st.lists(st.sampled_from(["one", "and", "cat", "58", "=", "-", "well,", "so;", "end.", "Dr.", "in", "why?"]), max_size=40)


@given(SPOKEN.map(" ".join), st.lists(st.integers(1, 9), max_size=20))
def test_early_pieces_do_not_depend_on_how_the_text_arrives_and_keep_their_limits(text, sizes):
    found = pieces(text, sizes, (3, 6), 2)
    assert found == pieces(text, [], (3, 6), 2)
    assert " ".join(found) == text
    for piece, limit in zip(found[:-1], (3, 6), strict=False):
        assert len(piece.split()) <= limit


def test_a_long_sentence_begins_with_a_piece_that_ends_well():
    assert pieces("One day Amy was in the museum. She had a pot.", [], (5, 12), 2) == [
        "One day Amy was", "in the museum.", "She had a pot.",
    ]
    assert pieces("58 - 51 = 7.", [3, 4], (5, 12), 2) == ["58 - 51", "= 7."]
    assert pieces("82, 74, 31, 31.", [], (5, 12), 2) == ["82, 74,", "31, 31."]
    assert pieces("Yes. It is so.", [], (5, 12), 2) == ["Yes.", "It is so."]
