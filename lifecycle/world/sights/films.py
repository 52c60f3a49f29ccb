"""Clips as files that every player opens, and back: mp4, webm and gif through FFmpeg's libraries."""

from __future__ import annotations

import importlib
import io
from types import ModuleType

import numpy as np
from PIL import Image

from lifecycle.config import choose
from lifecycle.errors import LifecycleError

RATE = 4  # frames a second: a clip of eight takes two seconds
FORMATS: dict[str, tuple[str, str, dict[str, str]]] = {
    "mp4": ("libx264", "yuv420p", {"crf": "12"}),
    "webm": ("libvpx-vp9", "yuv420p", {"crf": "12", "b": "0"}),
    "gif": ("gif", "pal8", {}),
}
"""By the format: codec, what a pixel is, and the codec's options. The first two round colours over squares of 2 x 2 pixels."""


def encode(frames: np.ndarray, format: str = "mp4", rate: int = RATE) -> bytes:
    """A file's bytes for uint8 [frames, height, width, 3] with even height and width.

    Raises LifecycleError for an unknown format, an odd side, or where PyAV is missing.
    """
    codec, pixels, options = choose("format", format, FORMATS)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise LifecycleError(f"a film is made of uint8 [frames, height, width, 3], not {frames.dtype} {list(frames.shape)}")
    if frames.shape[1] % 2 or frames.shape[2] % 2:
        raise LifecycleError(f"a film's sides are even numbers of pixels, not {frames.shape[2]} x {frames.shape[1]}")
    av, out = _av(), io.BytesIO()
    with av.open(out, "w", format=format) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        for frame in _indexed(av, frames) if pixels == "pal8" else _plain(av, frames):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return out.getvalue()


def decode(film: bytes) -> np.ndarray:
    """uint8 [frames, height, width, 3], RGB; raises LifecycleError for what is no film."""
    av = _av()
    try:
        with av.open(io.BytesIO(film)) as container:
            return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        raise LifecycleError(f"these bytes are no film: {error}") from None


def _plain(av: ModuleType, frames: np.ndarray) -> list:
    return [av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24") for frame in frames]


def _indexed(av: ModuleType, frames: np.ndarray) -> list:
    """With one palette of at most 255 colours for all frames."""
    number, height, width, _ = frames.shape
    image = Image.fromarray(np.ascontiguousarray(frames).reshape(number * height, width, 3)).quantize(255, dither=Image.Dither.NONE)
    colours = np.frombuffer(image.palette.tobytes(), np.uint8).reshape(-1, 3)
    palette = np.zeros((256, 4), np.uint8)  # opacity, red, green, blue
    palette[: len(colours), 0], palette[: len(colours), 1:] = 255, colours
    indices = np.asarray(image).reshape(number, height, width)
    return [av.VideoFrame.from_ndarray((np.ascontiguousarray(frame), palette), format="pal8") for frame in indices]


def _av() -> ModuleType:
    try:
        return importlib.import_module("av")
    except ImportError:
        raise LifecycleError("films are written with PyAV: type pip install 'llm-lifecycle[vision]'") from None
