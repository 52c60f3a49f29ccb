"""Clips in MP4 and WebM, by FFmpeg through PyAV."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np

from serving.domain.errors import InvalidRequest, MediaTooLarge, UnsupportedMedia
from serving.infrastructure.media.formats import CLIPS
from serving.infrastructure.media.limits import MediaLimits
from serving.infrastructure.media.sampling import EvenFrames
from serving.infrastructure.media.sizes import check_size, reduced

CODECS = ("h264", "hevc", "mpeg4", "vp8", "vp9", "libdav1d", "av1")
"""What cameras, browsers and editors write; FFmpeg knows hundreds that nobody sends."""
MISSING = 2
"""Frames that a container may announce and not have: editors cut at times, not at frames."""


def read_clip(data: bytes, name: str, most: int, limits: MediaLimits) -> EvenFrames:
    """Every frame of the first picture track. The demuxer is the named one: none that opens other files is ever tried."""
    frames = EvenFrames(limits)
    guard = {"max_pixels": str(limits.media_pixels)}  # holds for sizes that change on the way, too
    with av.open(io.BytesIO(data), format=CLIPS[name], options=guard, metadata_errors="ignore") as container:
        if not container.streams.video:
            raise InvalidRequest("has no pictures in it, only sound or nothing")
        stream = container.streams.video[0]
        context = stream.codec_context
        if context.name not in CODECS:
            raise UnsupportedMedia(f'is encoded with "{context.name}": {", ".join(CODECS)} are read')
        if (container.duration or 0) / av.time_base > limits.media_seconds:
            raise MediaTooLarge(f"is longer than {limits.media_seconds:g} seconds")
        check_size(context.width, context.height, limits.media_pixels)
        context.options, context.thread_count = guard, 1
        begin, unseen = None, 0
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise InvalidRequest("is damaged, or its end is missing")
            unseen += packet.is_discard  # an editor has cut it away, and only what follows needs it
            for frame in packet.decode():
                seconds = frames.seen / float(stream.average_rate or 25) if frame.time is None else frame.time
                begin = seconds if begin is None else begin
                frames.offer(max(0.0, seconds - begin), lambda frame=frame: _frame(frame, most, limits))
        told = len(stream.index_entries) - unseen if stream.frames else 0  # `frames` counts what is cut away, too
        if told > frames.seen + MISSING:
            raise InvalidRequest(f"ends after {frames.seen} of {told} frames: it is damaged, or its end is missing")
    return frames


def _frame(frame: av.VideoFrame, most: int, limits: MediaLimits) -> Any:
    """Upright, as phones turn clips by a note only."""
    check_size(frame.width, frame.height, limits.media_pixels)
    width, height = reduced(frame.width, frame.height, most)
    pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
