"""A still picture: what is in it, where, on which ground; rendered to pixels, put into words, and asked about."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lifecycle.world.sights import questions
from lifecycle.world.sights.items import Item
from lifecycle.world.sights.sprites import sprite

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Ground:
    """A background: from one colour to another along a direction, with noise of so many grey levels on it."""

    first: Colour
    last: Colour
    direction: tuple[float, float]
    noise: int

    def render(self, size: int, seed: int) -> np.ndarray:
        """int16 [size, size, 3]."""
        line = np.linspace(0, 1, size, dtype=np.float32)
        along = self.direction[0] * line[None, :, None] + self.direction[1] * line[:, None, None]
        first, last = (np.array(colour, np.float32) for colour in (self.first, self.last))
        ground = np.broadcast_to(first + along * (last - first), (size, size, 3)).astype(np.int16)
        if self.noise:
            ground += np.random.default_rng(seed).integers(-self.noise, self.noise + 1, (size, size, 1), np.int16)
        return ground


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that a picture shows; equal scenes render to equal pixels."""

    kind: str
    """What it was composed for, one of `sampling.KINDS` or `LOOSE`."""
    items: tuple[Item, ...]
    """From the back to the front."""
    ground: Ground
    seed: int
    """Of the noise, and of the words that are chosen for caption and questions."""

    def render(self, size: int = 64) -> np.ndarray:
        """uint8 [size, size, 3], RGB; raises LifecycleError where a font is missing."""
        return np.asarray(self.picture(size))

    def picture(self, size: int = 64) -> Image.Image:
        """The same as a PIL image."""
        canvas = Image.fromarray(self.ground.render(size, self.seed).clip(0, 255).astype(np.uint8))
        for item in self.items:
            drawn = sprite(item.kind, item.word, item.look, max(1, round(item.extent * size)), item.angle)
            corner = round(item.x * size - drawn.width / 2), round(item.y * size - drawn.height / 2)
            canvas.paste(drawn, corner, drawn)
        return canvas

    def caption(self) -> str:
        """A sentence or two that say what is there."""
        return questions.caption(self.items, random.Random(f"caption {self.seed}"))

    def questions(self) -> list[questions.Question]:
        """All that can be asked about it without ambiguity, in the order of `questions.SKILLS`."""
        return questions.about(self.kind, self.items, random.Random(f"questions {self.seed}"))
