"""Sounds of every kind become one channel at 16 kHz, or the reason why not; nothing takes more than it may."""

from __future__ import annotations

import io
import os
import random
import wave

import av
import numpy as np
import pytest

from media.files import clip, sound
from serving.application.speech import Audio
from serving.domain.errors import InvalidRequest, MediaTooLarge, ServingError, UnsupportedMedia
from serving.infrastructure.media.formats import SOUND_RATE
from serving.infrastructure.media.limits import MediaLimits
from serving.infrastructure.media.opener import SoundOpener
from serving.infrastructure.speech.encoding import FORMATS, PCM_RATE, write_sound

SECONDS, PITCH = 1.5, 440
CASES = int(os.environ.get("MEDIA_CASES", "40"))
open_sound = SoundOpener(MediaLimits())


def tone(rate: int, seconds: float = SECONDS) -> np.ndarray:
    return (np.sin(np.arange(int(seconds * rate)) / rate * 2 * np.pi * PITCH) * 0.5).astype(np.float32)


def wav(rate: int = 16000, channels: int = 1, width: int = 2, samples: np.ndarray | None = None) -> bytes:
    """Every channel has the same tone."""
    samples = np.repeat(tone(rate) if samples is None else samples, channels)
    if width == 1:
        data = (samples * 127 + 128).astype(np.uint8).tobytes()
    else:
        whole = (samples * (2 ** (8 * width - 1) - 1)).astype("<i4")
        data = whole.view(np.uint8).reshape(-1, 4)[:, :width].tobytes()
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(data)
    return out.getvalue()


def encoded(container: str, codec: str, rate: int = 16000, layout: str = "mono") -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate, layout=layout)
        channels = stream.codec_context.channels
        fit = av.AudioResampler(stream.codec_context.format.name, layout, rate, stream.codec_context.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(np.repeat(tone(rate), channels)[None], format="flt", layout=layout)
        frame.sample_rate = rate
        for piece in (*fit.resample(frame), *fit.resample(None)):
            file.mux(stream.encode(piece))
        file.mux(stream.encode())
    return out.getvalue()


def check_tone(audio: Audio, seconds: float = SECONDS) -> None:
    assert audio.rate == SOUND_RATE and audio.samples.dtype == np.float32
    assert audio.seconds == pytest.approx(seconds, abs=0.12)
    spectrum = np.abs(np.fft.rfft(audio.samples))
    assert spectrum.argmax() / audio.seconds == pytest.approx(PITCH, abs=2)
    assert 0.3 < np.abs(audio.samples[4000:20000]).max() < 0.75


@pytest.mark.parametrize(
    ("rate", "channels", "width"),
    [(16000, 1, 2), (8000, 1, 1), (44100, 2, 2), (48000, 2, 3), (96000, 1, 4), (22050, 6, 2), (11025, 2, 1)],
)
def test_wav_of_any_rate_width_and_number_of_channels(rate, channels, width):
    check_tone(open_sound(wav(rate, channels, width), "file"))


@pytest.mark.parametrize(
    ("container", "codec", "rate", "layout"),
    [
        ("mp3", "libmp3lame", 44100, "stereo"), ("ogg", "libopus", 48000, "mono"), ("ipod", "alac", 44100, "stereo"),
        ("flac", "flac", 48000, "stereo"), ("mp4", "aac", 44100, "mono"), ("webm", "libopus", 48000, "mono"),
        ("adts", "aac", 16000, "mono"), ("wav", "pcm_mulaw", 8000, "mono"), ("wav", "pcm_f32le", 16000, "mono"),
    ],
)  # fmt: skip
def test_what_recorders_phones_and_browsers_write(container, codec, rate, layout):
    check_tone(open_sound(encoded(container, codec, rate, layout), "file"))


@pytest.mark.parametrize("rate", [16000, 24000])
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_here_piece_by_piece_is_read_here(name, rate):
    samples = tone(rate)
    pieces = [Audio(samples[: rate // 2], rate), Audio(samples[:0], rate), Audio(samples[rate // 2 :], rate)]
    written = list(write_sound(name, rate, pieces))
    assert len(written) > 2 and sum(map(len, written[:2])), "the first piece does not wait for the last one"
    data = b"".join(written)
    if name == "pcm":
        check_tone(open_sound(wav(PCM_RATE, samples=np.frombuffer(data, "<i2") / 32768), "file"))
    else:
        check_tone(open_sound(data, "file"))


def test_clipping_and_silence_are_sound():
    loud = open_sound(wav(samples=np.clip(tone(16000) * 100, -1, 1)), "file")
    assert np.abs(loud.samples).max() <= 1.01
    assert not np.any(open_sound(wav(samples=np.zeros(16000, np.float32)), "file").samples)


def refused(data: bytes, kind: type[ServingError], words: str, limits: MediaLimits | None = None) -> None:
    with pytest.raises(InvalidRequest, match=words) as error:
        SoundOpener(limits or MediaLimits())(data, "file")
    assert type(error.value) is kind and error.value.param == "file" and error.value.message.startswith('"file" ')


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (b"", InvalidRequest, "is empty"),
        (b"hello, is this sound?", UnsupportedMedia, "none of the kinds of sound read here"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), UnsupportedMedia, "none of the kinds"),
        (b"RIFF\x00\x00\x00\x00WAVE", InvalidRequest, "no sound"),
        (b"ID3" + bytes(1000), InvalidRequest, "damaged|no sound"),
        (wav()[:44], InvalidRequest, "ends after 0 of"),
        (wav()[:-1000], InvalidRequest, "its end is missing"),
        (encoded("flac", "flac")[:-3000], InvalidRequest, "its end is missing"),
        (sound()[:-200], InvalidRequest, "damaged|no sound|end is missing"),
        (encoded("ogg", "libopus", 48000)[:-100], InvalidRequest, "its end is missing"),
        (encoded("mp3", "libmp3lame")[:30], InvalidRequest, "damaged|no sound"),
        (clip("mp4", "libx264"), InvalidRequest, "no sound in it"),
        (wav(2000), InvalidRequest, "2000 samples a second: between 4000"),
        (wav(16000, channels=10), InvalidRequest, "10 channels"),
        (wav(samples=np.zeros(0, np.float32)), InvalidRequest, "no sound|its end is missing"),
    ],
)
def test_what_is_no_whole_sound_is_refused_with_its_reason(data, kind, words):
    refused(data, kind, words)


def three_hours(rate: int = 4000) -> bytes:
    """Of silence, in next to no bytes."""
    out = io.BytesIO()
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 4608), np.int16), format="s16", layout="mono")
    with av.open(out, "w", format="flac") as file:
        stream = file.add_stream("flac", rate=rate, layout="mono")
        for at in range(3 * 3600 * rate // 4608):
            frame.sample_rate, frame.pts = rate, at * 4608
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return out.getvalue()


def test_three_hours_are_refused_before_they_are_decoded_and_where_nobody_told_as_soon_as_they_are_too_long():
    data = three_hours()
    assert len(data) < 2**22
    refused(data, MediaTooLarge, "lasts 10[0-9]{3} seconds: at most 600 are taken, so send it in parts")
    untold = bytearray(data)
    at = data.index(b"fLaC") + 8 + 13
    untold[at] &= 0xF0
    untold[at + 1 : at + 5] = bytes(4)
    refused(bytes(untold), MediaTooLarge, "lasts more than 600 seconds|lasts [0-9]+ seconds")
    refused(wav(), MediaTooLarge, "lasts 2 seconds: at most 1 are", MediaLimits(audio_seconds=1))
    refused(wav(), MediaTooLarge, "has [0-9]+ bytes: at most 1000", MediaLimits(audio_bytes=1000))


def test_damaged_files_are_sound_or_refused():
    made = [wav(), *(encoded(*kind) for kind in (("mp3", "libmp3lame"), ("flac", "flac"), ("mp4", "aac")))]
    chance = random.Random(0)
    for case in range(CASES):
        data = bytearray(made[case % len(made)])
        for _ in range(chance.choice((1, 8, 64))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        if chance.random() < 0.5:
            del data[chance.randrange(len(data)) :]
        try:
            audio = open_sound(bytes(data), "file")
        except InvalidRequest as error:
            assert len(error.message) < 300
        else:
            assert audio.seconds < 60 and np.isfinite(audio.samples).all()
