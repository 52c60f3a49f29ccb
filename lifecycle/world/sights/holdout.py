"""Which combinations training never shows, decided by the same hash as the text world's (`lifecycle/world/holdout.py`)."""

from __future__ import annotations

from lifecycle.world.holdout import bucket


def place_is_held_out(word: str, place: str) -> bool:
    """One in eight (drawing or shape, place) pairs."""
    return bucket("sight place", word, place, of=8) == 0


def colour_is_held_out(shape: str, colour: str) -> bool:
    """One in eight (shape, colour) pairs."""
    return bucket("sight colour", shape, colour, of=8) == 0


def count_is_held_out(word: str, count: int) -> bool:
    """One in eight (drawing or shape, number of them) pairs, for numbers above one."""
    return count > 1 and bucket("sight count", word, count, of=8) == 0


def couple_is_held_out(one: str, other: str) -> bool:
    """One in eight pairs of drawings or shapes: never together in a training picture."""
    return bucket("sight couple", *sorted((one, other)), of=8) == 0


def writing_is_held_out(text: str) -> bool:
    """One in five numbers and one in five words."""
    return bucket("sight writing", text, of=5) == 0


def move_is_held_out(word: str, direction: str) -> bool:
    """One in eight (drawing or shape, direction of moving) pairs, and so with what else can happen to it in a clip."""
    return bucket("sight move", word, direction, of=8) == 0
