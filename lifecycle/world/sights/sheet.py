"""Samples to look at: one file each, a line of what is said about each, and a contact sheet of all."""

from __future__ import annotations

import itertools
import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from PIL import Image, ImageDraw

from lifecycle.world.sights.clips import Clip
from lifecycle.world.sights.films import FORMATS, encode
from lifecycle.world.sights.scene import Scene

SIZE = 64
SCALE = 2  # pixels of the sheet for one of a picture
CAPTION = 44  # height of what is written under a picture, in pixels of the sheet
LETTERS = 22  # of a line under a picture


def write_samples(shown: Sequence[Scene] | Sequence[Clip], directory: Path) -> list[Path]:
    """`0000.png`, or `0000.mp4`, `.webm` and `.gif`, and so on, with `samples.jsonl` and `sheet.png`; returns what was written."""
    directory.mkdir(parents=True, exist_ok=True)
    rows, written = [], []
    for number, one in enumerate(shown):
        written += _write(one, directory / f"{number:04}")
        rows.append({"caption": one.caption(), "questions": [asdict(question) for question in one.questions()]})
    said, sheet = directory / "samples.jsonl", directory / "sheet.png"
    said.write_text("".join(json.dumps(row) + "\n" for row in rows))
    contact_sheet(shown).save(sheet, optimize=True)
    return [*written, said, sheet]


def contact_sheet(shown: Sequence[Scene] | Sequence[Clip], columns: int = 8) -> Image.Image:
    """Pictures in rows, or a clip's frames in a row of its own, with captions below."""
    side = SIZE * SCALE
    strips = [one.pictures(SIZE) if isinstance(one, Clip) else [one.picture(SIZE)] for one in shown]
    places = itertools.accumulate(strips, lambda place, strip: place + len(strip), initial=0)
    rows = -(-sum(map(len, strips)) // columns)
    sheet = Image.new("RGB", (columns * side, rows * (side + CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    for one, strip, place in zip(shown, strips, places, strict=False):
        left, top = place % columns * side, place // columns * (side + CAPTION)
        for number, picture in enumerate(strip):
            sheet.paste(picture.resize((side - 2, side - 2), Image.Resampling.NEAREST), (left + number * side, top))
        draw.text((left + 2, top + side), textwrap.fill(one.caption(), LETTERS * len(strip)), fill="black")
    return sheet


def _write(one: Scene | Clip, stem: Path) -> list[Path]:
    if isinstance(one, Scene):
        one.picture(SIZE).save(path := stem.with_suffix(".png"))
        return [path]
    frames, paths = one.frames(SIZE), [stem.with_suffix(f".{format}") for format in FORMATS]
    for format, path in zip(FORMATS, paths, strict=True):
        path.write_bytes(encode(frames, format))
    return paths
