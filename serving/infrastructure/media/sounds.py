"""Sound in the containers that recorders, phones and browsers write, by FFmpeg through PyAV: one channel at 16 kHz."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np

from serving.domain.errors import InvalidRequest, MediaTooLarge, UnsupportedMedia
from serving.infrastructure.media.formats import SOUND_RATE as RATE
from serving.infrastructure.media.limits import MediaLimits
from serving.infrastructure.media.sampling import Deadline

RATES = (4000, 192000)
"""Lowest and highest that are read."""
MOST_CHANNELS = 8
DEMUXERS = {
    "WAV": "wav", "MP3": "mp3", "Ogg": "ogg", "FLAC": "flac", "MP4": "mp4", "WebM": "matroska", "AAC": "aac",
}
"""Name to FFmpeg's demuxer: none that opens other files is ever tried."""
CODECS = ("aac", "alac", "flac", "libopus", "libvorbis", "mp3", "mp3float", "opus", "vorbis")
KNOWN_LENGTH = ("WAV", "FLAC", "MP4")
"""Containers that say how long their sound is, so that a missing end is noticed."""
SLACK = 0.1
"""Seconds that an encoder may have announced and not written."""
UNTOLD = (0, 0xFFFFFFFF)
"""What WAV files that were written to a pipe say of their size."""


def sound_format(data: bytes) -> str:
    """One of `DEMUXERS`. Raises `UnsupportedMedia` for anything else."""
    if data[:4] in (b"RIFF", b"RF64") and data[8:12] == b"WAVE":
        return "WAV"
    if data.startswith(b"OggS"):
        return "Ogg"
    if data.startswith(b"fLaC"):
        return "FLAC"
    if data[4:8] == b"ftyp":
        return "MP4"
    if data.startswith(b"\x1a\x45\xdf\xa3"):
        return "WebM"
    if data[:1] == b"\xff" and data[1:2] and data[1] & 0xF6 == 0xF0:
        return "AAC"
    if data.startswith(b"ID3") or (data[:1] == b"\xff" and data[1:2] and data[1] & 0xE0 == 0xE0):
        return "MP3"
    raise UnsupportedMedia(f"is none of the kinds of sound read here: {', '.join(DEMUXERS)}")


def read_sound(data: bytes, limits: MediaLimits) -> Any:
    """int16 [n], as uint8 [n, 2]: what follows the limit is never decoded.

    Raises `InvalidRequest` for a damaged file, `MediaTooLarge` for a long one, `UnsupportedMedia` for another kind.
    """
    name = sound_format(data)
    if name == "WAV":
        data = whole_wav(data)
    elif name == "Ogg":
        _check_ogg(data)
    with av.open(io.BytesIO(data), format=DEMUXERS[name], metadata_errors="ignore") as container:
        if not container.streams.audio:
            raise InvalidRequest("has no sound in it")
        stream = container.streams.audio[0]
        _check(stream.codec_context)
        told = _seconds(container, stream)
        if told > limits.audio_seconds:
            raise MediaTooLarge(f"lasts {told:.0f} seconds: at most {limits.audio_seconds:g} are taken, so send it in parts")
        samples = _decoded(container, stream, limits)
        if name in KNOWN_LENGTH and len(samples) / RATE < min(told * 0.98, told - SLACK):
            raise InvalidRequest(f"ends after {len(samples) / RATE:.1f} of {told:.1f} seconds: it is damaged, or its end is missing")
    if not len(samples):
        raise InvalidRequest("has no sound in it")
    return samples.view(np.uint8).reshape(-1, 2)


def _check(context: Any) -> None:
    if context.name not in CODECS and not context.name.startswith(("pcm_", "adpcm_")):
        raise UnsupportedMedia(f'is encoded with "{context.name}": PCM, {", ".join(CODECS)} are read')
    low, high = RATES
    if not low <= context.sample_rate <= high:
        raise InvalidRequest(f"has {context.sample_rate} samples a second: between {low} and {high} are read")
    if not 1 <= context.channels <= MOST_CHANNELS:
        raise InvalidRequest(f"has {context.channels} channels: at most {MOST_CHANNELS} are read")


def _seconds(container: Any, stream: Any) -> float:
    """What the file says of its length; 0 where it does not."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / av.time_base


def _decoded(container: Any, stream: Any, limits: MediaLimits) -> Any:
    deadline = Deadline(limits.media_decode_seconds)
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    stream.codec_context.thread_count = 1
    pieces, count, most = [], 0, int(limits.audio_seconds * RATE)
    for packet in container.demux(stream):
        deadline.check()
        if packet.is_corrupt:
            raise InvalidRequest("is damaged, or its end is missing")
        for frame in packet.decode():
            for piece in resampler.resample(frame):
                pieces.append(piece.to_ndarray()[0])
                count += len(pieces[-1])
        if count > most:
            raise MediaTooLarge(f"lasts more than {limits.audio_seconds:g} seconds: send it in parts")
    pieces += [piece.to_ndarray()[0] for piece in resampler.resample(None)] if pieces else []
    return np.concatenate(pieces) if pieces else np.zeros(0, np.int16)


def whole_wav(data: bytes) -> bytes:
    """With the size of its sound, also where its writer did not know it. Raises `InvalidRequest` when there must be more."""
    at = 12
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind == b"data":
            there = len(data) - at - 8
            if size in UNTOLD:
                return data[: at + 4] + there.to_bytes(4, "little") + data[at + 8 :]
            if size > there:
                raise InvalidRequest(f"ends after {there} of {size} bytes of sound: it is damaged, or its end is missing")
            return data
        at += 8 + size + size % 2
    raise InvalidRequest("has no sound in it, or its end is missing")


def _check_ogg(data: bytes) -> None:
    """The last page has to be a whole one."""
    page = data.rfind(b"OggS")
    header = page + 27
    segments = data[header : header + data[header - 1]] if len(data) >= header else b""
    if len(data) < header or len(segments) < data[header - 1] or len(data) < header + len(segments) + sum(segments):
        raise InvalidRequest("is damaged, or its end is missing")
