"""Pictures, and animations made of pictures, by Pillow."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from serving.domain.errors import MediaTooLarge
from serving.infrastructure.media.gif import check_frames
from serving.infrastructure.media.limits import MediaLimits
from serving.infrastructure.media.sampling import EvenFrames
from serving.infrastructure.media.sizes import check_size, reduced

INSTANT = 0.1
"""Seconds that browsers show a frame that says 0."""
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientations, and what undoes them."""


def read_still(data: bytes, name: str, most: int, limits: MediaLimits) -> Any:
    """The picture upright, on white where it is transparent: uint8 [height, width, 3] of at most `most` pixels."""
    with _open(data, name, limits) as image:
        size = reduced(*image.size, most)
        image.draft("RGB", size)  # a JPEG can be decoded to an eighth of its size at once
        small = _small(image, size)
        turn = UPRIGHT.get(_orientation(image))
        return _frame(small if turn is None else small.transpose(turn))


def read_animation(data: bytes, name: str, most: int, limits: MediaLimits) -> EvenFrames:
    """Every frame as it is seen, what was there before shining through where it says so."""
    frames, seconds = EvenFrames(limits), 0.0
    with _open(data, name, limits) as image:
        while True:
            try:
                image.seek(frames.seen)
            except EOFError:
                return frames
            check_size(*image.size, limits.media_pixels)  # which a frame beyond the canvas has made larger
            image.load()
            frames.offer(seconds, lambda: _frame(_small(image, reduced(*image.size, most))))
            seconds += image.info.get("duration", 0) / 1000 or INSTANT


def _open(data: bytes, name: str, limits: MediaLimits) -> Image.Image:
    if name == "GIF":
        check_frames(data, limits.media_pixels)
    try:
        image = Image.open(io.BytesIO(data), formats=[name])
    except Image.DecompressionBombError:
        raise MediaTooLarge(f"has more than {limits.media_pixels} pixels: send a smaller copy") from None
    check_size(*image.size, limits.media_pixels)
    return image


def _small(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """RGB, or RGBA where something shines through."""
    if image.mode.startswith("I"):  # 16 bits a channel
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    mode = "RGBA" if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info else "RGB"
    flat = image if image.mode == mode and "transparency" not in image.info else image.convert(mode)
    return flat.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # nonsense beside a picture does not make it one less
        return None


def _frame(image: Image.Image) -> Any:
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return np.array(image)
