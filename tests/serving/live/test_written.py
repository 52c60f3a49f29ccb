"""Sums as they are written; everything else as it was heard."""

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
        ("", ""),
    ],
)
def test_sums_are_written(heard, written):
    assert as_written(heard) == written
    assert as_written(written) == written
