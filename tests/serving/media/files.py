"""Small real files of every format that is read, made on the spot."""

from __future__ import annotations

import base64
import io

import av
import numpy as np
from PIL import Image

from serving.application.media import MediaSource

WIDTH, HEIGHT, FRAMES, RATE = 48, 32, 20, 10


def pattern(step: int = 0, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Smooth colours that move with `step`: [height, width, 3]."""
    across, down = np.meshgrid(np.arange(width) / width, np.arange(height) / height)
    return np.stack([across * 255, down * 255, np.full_like(across, 40 + 8 * step)], 2).astype(np.uint8)


def still(name: str, pixels: np.ndarray | Image.Image | None = None, **options) -> bytes:
    """An image file by Pillow's name of its format."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pattern() if pixels is None else pixels)
    out = io.BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


def animation(name: str, frames: int = FRAMES, duration: int = 1000 // RATE) -> bytes:
    """A moving image file by Pillow's name of its format; `duration` of a frame in milliseconds."""
    first, *rest = [Image.fromarray(pattern(step)) for step in range(frames)]
    out = io.BytesIO()
    first.save(out, name, save_all=True, append_images=rest, duration=duration, loop=0)
    return out.getvalue()


def clip(container: str, codec: str, frames: int = FRAMES, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """A clip by FFmpeg's names of its container and codec."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream = file.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        for step in range(frames):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pattern(step, width, height), format="rgb24")))
        file.mux(stream.encode())
    return out.getvalue()


def sound() -> bytes:
    """An MP4 without pictures."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        stream = file.add_stream("aac", rate=16000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return out.getvalue()


STILLS = {
    "PNG": lambda: still("PNG"),
    "JPEG": lambda: still("JPEG", quality=95),
    "WEBP": lambda: still("WEBP", lossless=True),
    "GIF": lambda: still("GIF"),
    "BMP": lambda: still("BMP"),
}
CLIPS = {
    "mp4": lambda: clip("mp4", "libx264"),
    "webm": lambda: clip("webm", "libvpx"),
    "gif": lambda: animation("GIF"),
    "webp": lambda: animation("WEBP"),
}


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def source(kind: str, data: bytes, param: str = "here", **fields) -> MediaSource:
    return MediaSource(kind, data_url(data), param, **fields)
