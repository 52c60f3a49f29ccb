"""Where the tokens of a picture lie in it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Grid:
    """`rows` times `columns` tokens of a picture, over a part of it; a picture in tiles has several.

    `box` is that part: left, top, right and bottom in widths and heights of the picture; beyond 0 and 1 where the model is
    shown a margin. `patch_rows` times `patch_columns` patches of it are what the vision tower is given. Of the picture's
    placeholders, number `first + row * step + column` is the token at `row` and `column`.
    """

    rows: int
    columns: int
    patch_rows: int
    patch_columns: int
    box: tuple[float, float, float, float]
    first: int
    step: int

    @property
    def numbers(self) -> list[int]:
        """Of the placeholders, row by row."""
        return [self.first + row * self.step + column for row in range(self.rows) for column in range(self.columns)]
