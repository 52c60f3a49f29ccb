"""One thing in a picture: what it is, how it looks, where it is."""

from __future__ import annotations

from dataclasses import dataclass

from lifecycle.world.sights import words

CORE = 0.11  # how far off a place's centre something may be to be said to be there


@dataclass(frozen=True, slots=True)
class Item:
    """One thing in a picture; lengths are shares of the picture's side, y points down."""

    kind: str
    """"drawing", "shape" or "writing"."""
    word: str
    """What it is called, or what is written."""
    look: str
    """The style of a drawing, the colour of a shape (of `words.COLOURS` or `words.TINTS`), colour and typeface of writing."""
    x: float
    """Centre."""
    y: float
    extent: float
    """The longer side."""
    angle: int = 0
    """Degrees against the clock."""

    @property
    def colour(self) -> str | None:
        """The colour's name; None for a drawing, which has several, and for a colour without a name."""
        colour = self.look.split()[0]
        return colour if colour in words.COLOURS else None

    @property
    def place(self) -> str | None:
        """One of `words.PLACES`; None between two of them."""
        for place, (x, y) in words.PLACES.items():
            if abs(self.x - x) <= CORE and abs(self.y - y) <= CORE:
                return place
        return None
