"""Clips: the same frames whatever the format, evenly chosen, within the limits."""

import struct

import numpy as np
import pytest

from serving.domain.errors import InvalidRequest, MediaTooLarge, UnsupportedMedia
from serving.infrastructure.media.limits import MediaLimits
from serving.infrastructure.media.reader import MediaReader
from serving.infrastructure.media.sampling import EvenFrames

from .files import CLIPS, FRAMES, HEIGHT, RATE, WIDTH, animation, clip, pattern, sound, source, still

READ = MediaReader(MediaLimits(media_frames=6))


@pytest.fixture(scope="module")
def clips() -> dict[str, bytes]:
    return {name: make() for name, make in CLIPS.items()}


def test_a_clip_shows_the_same_frames_at_the_same_times_in_every_format(clips):
    read = {name: READ([source("video", data)])[0] for name, data in clips.items()}
    for media in read.values():
        assert media.kind == "video" and len(media.frames) == len(media.times) == 6
        assert media.times == pytest.approx(read["mp4"].times, abs=0.002)
        for frame, seconds in zip(media.frames, media.times, strict=True):
            assert frame.shape == (HEIGHT, WIDTH, 3) and frame.dtype == np.uint8
            assert np.abs(frame.astype(int) - pattern(round(seconds * RATE))).mean() < 8


@pytest.mark.parametrize("name", CLIPS)
def test_a_short_clip_is_taken_whole(clips, name):
    (media,) = MediaReader(MediaLimits(media_frames=64))([source("video", clips[name])])
    assert media.times == pytest.approx([step / RATE for step in range(FRAMES)], abs=0.002)


@pytest.mark.parametrize("most", [1, 2, 5, 16])
def test_frames_are_even_whatever_their_number(most):
    for count in (1, 2, 3, 16, 17, 31, 33, 100, 1000):
        frames = EvenFrames(MediaLimits(media_frames=most, media_seconds=2000))
        for step in range(count):
            frames.offer(float(step), lambda step=step: step)
        chosen, times = frames.chosen()
        gaps = np.diff(chosen)
        assert chosen == tuple(int(time) for time in times) and chosen[0] == 0
        assert len(chosen) == min(most, count)
        if len(gaps):
            assert gaps.min() > 0 and gaps.max() <= 2 * gaps.min() and chosen[-1] >= count - 2 * gaps.max()


def test_all_frames_together_are_bounded():
    read = MediaReader(MediaLimits(media_kept_pixels=400, media_frames=4))
    for name in ("mp4", "gif"):
        (media,) = read([source("video", CLIPS[name]())])
        assert sum(frame.shape[0] * frame.shape[1] for frame in media.frames) <= 4 * 400


def test_a_clip_that_is_too_long_is_refused(clips):
    read = MediaReader(MediaLimits(media_seconds=1))
    for data in clips.values():
        with pytest.raises(MediaTooLarge, match="longer than 1 seconds"):
            read([source("video", data)])


def test_a_clip_with_too_many_pixels_is_refused(clips):
    read = MediaReader(MediaLimits(media_pixels=WIDTH * HEIGHT - 1))
    for data in clips.values():
        with pytest.raises(MediaTooLarge, match=f"{WIDTH} x {HEIGHT}"):
            read([source("video", data)])


def test_a_clip_that_takes_too_long_is_refused(clips):
    read = MediaReader(MediaLimits(media_decode_seconds=1e-9))
    for data in clips.values():
        with pytest.raises(InvalidRequest, match="to decode"):
            read([source("video", data)])


@pytest.mark.parametrize("name", CLIPS)
def test_half_a_clip_is_refused(clips, name):
    data = clips[name]
    for cut in (len(data) // 2, 60):
        if (name, cut) == ("webm", len(data) // 2):
            continue  # as a browser's recorder would have left it
        with pytest.raises(InvalidRequest):
            READ([source("video", data[:cut])])


def trimmed(data: bytes, seconds: float) -> bytes:
    """An MP4 from there on, as phones and editors cut that write nothing anew: an edit list leaves out what is before."""
    clip, (rate,) = bytearray(data), struct.unpack_from(">I", data, data.rindex(b"mdhd") + 16)
    entry = data.rindex(b"elst") + 12
    length, start = struct.unpack_from(">II", data, entry)
    struct.pack_into(">II", clip, entry, length - round(1000 * seconds), start + round(rate * seconds))
    return bytes(clip)


def test_what_was_cut_away_is_neither_seen_nor_missed(clips):
    (media,) = READ([source("video", trimmed(clips["mp4"], 1))])
    assert np.abs(media.frames[0].astype(int) - pattern(RATE)).mean() < 8
    assert media.times[0] == 0 and media.times[-1] == pytest.approx(0.9, abs=0.11)


def test_what_is_no_clip_is_refused():
    for data, words in (
        (still("PNG"), 'a picture .*"image_url"'),
        (clip("matroska", "ffv1", 2), 'encoded with "ffv1"'),
    ):
        with pytest.raises(UnsupportedMedia, match=words):
            READ([source("video", data)])
    for data in (clip("mp4", "libx264", 0), sound(), b"\0\0\0\x18ftypmp42" + b"junk" * 99, b"GIF89a" + b"\0" * 99):
        with pytest.raises(InvalidRequest):
            READ([source("video", data)])


def test_an_animation_of_one_frame_is_a_clip_of_one_frame():
    (media,) = READ([source("video", animation("GIF", 1))])
    assert len(media.frames) == 1 and media.times == (0.0,)


@pytest.mark.parametrize("between", [b"", b"\0", b"\x21\xf9\0\x01;\0"], ids=["nothing", "a byte", "an extension"])
def test_no_later_frame_has_more_pixels_than_may_be(between):
    """Whatever is before it that a decoder passes over."""
    small, large = still("GIF"), still("GIF", pattern(0, 2 * WIDTH, 2 * HEIGHT))
    frame = large[large.index(b"\x2c\0\0\0\0", 13 + 3 * 2 ** (1 + (large[10] & 7))) :]
    read = MediaReader(MediaLimits(media_pixels=3 * WIDTH * HEIGHT))
    with pytest.raises(MediaTooLarge, match=f"{2 * WIDTH} x {2 * HEIGHT} pixels"):
        read([source("video", small[:-1] + between + frame)])
