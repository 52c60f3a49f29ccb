"""Numbers and sums as they are written; everything else as it was heard."""

import pytest

from serving.domain.written import as_written


@pytest.mark.parametrize(
    ("heard", "written"),
    [
        ("How much is 58 minus 51?", "How much is 58 - 51?"),
        ("What is seventeen plus twenty-five?", "What is 17 + 25?"),
        ("What is 52 minus 32 minus 10?", "What is 52 - 32 - 10?"),
        ("Eighty one minus 29 equals.", "81 - 29 = ?"),
        ("9 plus 67 equals?", "9 + 67 = ?"),
        ("six times seven", "6 * 7"),
        ("Anna has one apple, and plus is a word.", "Anna has one apple, and plus is a word."),
        ("The one minus sign", "The one minus sign"),
        ("Which number is larger, sixteen or forty?", "Which number is larger, 16 or 40?"),
        ("What is more, four or sixty six?", "What is more, 4 or 66?"),
        ("Sort seventeen, eighty-two, 31, zero.", "Sort 17, 82, 31, 0."),
        ("Sort thirty four eighty nine eleven ninety one.", "Sort 34, 89, 11, 91."),
        ("58 minus 51 equals seven.", "58 - 51 = 7."),
        ("Seventy three plus forty equals one hundred and thirteen.", "73 + 40 = 113."),
        ("A hundred sheep, one or two dogs and ten cats.", "100 sheep, one or two dogs and 10 cats."),
        ("Someone weighs a tonne, and often often.", "Someone weighs a tonne, and often often."),
        ("", ""),
    ],
)
def test_numbers_and_sums_are_written(heard, written):
    assert as_written(heard) == written
    assert as_written(written) == written
