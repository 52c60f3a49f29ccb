"""Where a model's picture tokens lie in the picture: told by its tower's arguments, and measured, not known by family.

Which part of a picture a tile shows is found by giving the image processor a picture of coordinates: red grows to the right,
green grows downwards. What comes back of it is where each pixel of a tile was taken from, whatever was resized, cut or padded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from serving.domain.errors import AttentionUndefined
from serving.domain.grid import Grid

Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
SEEN = 1e-3
"""A pixel that differs by less between a black and a white picture is a margin."""


class Grids:
    """For one model. `process` makes a tower's arguments of pictures that are shown together; `patch` is the height and width of
    a patch in pixels; `row_ends`: the model puts a vector of its own behind each row of tokens."""

    def __init__(self, process: Callable[[list[Image.Image]], Mapping[str, Any]], patch: Any, *, row_ends: bool) -> None:
        self._process = process
        self._patch = patch
        self._row_ends = row_ends
        self._boxes = lru_cache(maxsize=32)(self._measured)

    def of(self, height: int, width: int, inputs: Mapping[str, Any], size: int) -> tuple[Grid, ...]:
        """Of a picture of `size` placeholders, for which the tower is given `inputs`. Raises `AttentionUndefined`."""
        if "image_grid_thw" in inputs:
            _, patch_rows, patch_columns = inputs["image_grid_thw"][0].tolist()
            return (laid(size, patch_rows, patch_columns, WHOLE, 0),)
        pixels = inputs.get("pixel_values")
        if pixels is None or pixels.dim() not in (4, 5) or self._patch is None:
            raise undefined("its vision tower is not given pictures in rows and columns")
        tiles = math.prod(pixels.shape[:-3])
        down, across = (self._patch, self._patch) if isinstance(self._patch, int) else self._patch
        patches = (pixels.shape[-2] // down, pixels.shape[-1] // across)
        boxes = self._boxes(height, width, int(inputs.get("batch_num_images", (1,))[0]) == 1)
        if self._row_ends and size > math.prod(patches):
            return self._with_row_ends(boxes[0], width / height, size, tiles - 1, *patches)
        if size % tiles or len(boxes) != tiles:
            raise undefined(f"its {tiles} tiles do not share {size} tokens evenly")
        each = size // tiles
        return tuple(laid(each, *patches, box, at * each) for at, box in enumerate(boxes))

    def _with_row_ends(
        self, shown: Box, aspect: float, size: int, tiles: int, rows: int, columns: int
    ) -> tuple[Grid, ...]:
        """The whole picture, then the same from tiles put together and their margin cut off, which leaves one side whole."""
        whole = laid(rows * columns, rows, columns, shown, 0)
        if (rest := size - rows * columns) == 1:
            return (whole,)
        shapes = [(one, rest // one - 1) for one in range(1, rest) if rest % one == 0 and rest // one > 1]
        together = [(one * rows, tiles // one * columns) for one in range(1, tiles + 1) if tiles % one == 0]
        cut = [
            (down, across)
            for down, across in shapes
            if any((down == most and across <= wide) or (down <= most and across == wide) for most, wide in together)
        ]
        down, across = min(cut or shapes, key=lambda shape: abs(math.log(shape[0] / shape[1] * aspect)))
        box = _square_cells(down, across, aspect) if cut else WHOLE
        return whole, Grid(down, across, down, across, box, rows * columns, across + 1)

    def _measured(self, height: int, width: int, alone: bool) -> list[Box]:
        """Of each tile, the part of a picture of that size that it shows; beside another it may be laid out another way."""
        across = np.broadcast_to((np.arange(width) + 0.5) / width, (height, width))
        down = np.broadcast_to(((np.arange(height) + 0.5) / height)[:, None], (height, width))
        ones = np.ones((height, width))
        shown = self._pixels(np.stack([across, down, ones], -1), alone)
        black, white = (self._pixels(np.stack([one * ones] * 3, -1), alone) for one in (0, 1))
        inside = np.abs(white - black) > SEEN
        places = np.divide(shown - black, white - black, out=np.full_like(shown, np.nan), where=inside)
        boxes = []
        for tile in places:
            left, right = _ends(tile[0])
            top, bottom = _ends(tile[1].T)
            boxes.append((left, top, right, bottom))
        return boxes

    def _pixels(self, picture: np.ndarray, alone: bool) -> np.ndarray:
        """[tiles, 3, height, width] of a picture [height, width, 3] of shares of full brightness."""
        image = Image.fromarray((picture * 255).round().astype(np.uint8))
        images = [image] if alone else [image, image]
        pixels = np.asarray(self._process(images)["pixel_values"], dtype=np.float64)
        tiles = pixels.reshape(-1, *pixels.shape[-3:])
        return tiles[: len(tiles) // len(images)]


def laid(count: int, patch_rows: int, patch_columns: int, box: Box, first: int) -> Grid:
    """`count` tokens over so many patches, each over the same number of them in height as in width."""
    merged = math.sqrt(patch_rows * patch_columns / count)
    rows, columns = round(patch_rows / merged), round(patch_columns / merged)
    if rows * columns != count:
        raise undefined(f"{count} tokens do not lie evenly over {patch_rows} x {patch_columns} patches")
    return Grid(rows, columns, patch_rows, patch_columns, box, first, columns)


def _square_cells(rows: int, columns: int, aspect: float) -> Box:
    """Of tokens as high as they are wide, in the middle of a picture: a margin of less than one of them is not cut off."""
    wide, high = max(1.0, columns / rows / aspect), max(1.0, rows / columns * aspect)
    return (0.5 - wide / 2, 0.5 - high / 2, 0.5 + wide / 2, 0.5 + high / 2)


def undefined(why: str) -> AttentionUndefined:
    return AttentionUndefined(f"where this model looks cannot be laid over its pictures: {why}")


def _ends(places: np.ndarray) -> tuple[float, float]:
    """Where the outer edges of a tile's first and last column are; [height, width] places, NaN in a margin.

    Edges of a picture are smeared when it is resized, so a line is laid through the middle half of the columns.
    """
    columns = np.flatnonzero(~np.isnan(places).all(0))
    quarter = len(columns) // 4
    columns = columns[quarter : len(columns) - quarter]
    if len(columns) < 2:
        raise undefined("a tile shows next to nothing of the picture")
    slope, start = np.polyfit(columns, np.nanmean(places[:, columns], 0), 1)
    return float(start - slope / 2), float(start + slope * (places.shape[1] - 0.5))
