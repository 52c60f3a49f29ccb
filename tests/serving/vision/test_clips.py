"""Clips: frames as pictures where the family has no other way, else a refusal that says what is missing."""

from __future__ import annotations

import pytest

from serving.domain.errors import InvalidRequest
from serving.domain.media import Media

from .conftest import chat, picture


def clip(*seeds: int) -> Media:
    frames = tuple(picture(seed).frames[0] for seed in seeds)
    return Media("video", f"clip {seeds}", frames, tuple(map(float, range(len(frames)))))


def test_a_clip_is_its_frames_in_order(idefics):
    asked = chat("what happens ", clip(1, 2, 3), " beside ", picture(4), "?")
    frames = chat("what happens ", picture(1), picture(2), picture(3), " beside ", picture(4), "?")
    assert asked.prompt(idefics.served).tokens == frames.prompt(idefics.served).tokens
    assert idefics.answers(asked) == idefics.answers(frames) == [idefics.generate(frames)]
    other = chat("what happens ", clip(3, 2, 1), " beside ", picture(4), "?")
    first, *_, last = [one.digest for one in asked.prompt(idefics.served).media[:3]]
    assert [one.digest for one in other.prompt(idefics.served).media[:3]][::2] == [last, first]


def test_texts_pictures_and_clips_share_steps(idefics):
    asked = [chat("hello"), chat(picture(5), "?"), chat(clip(6, 7), "?"), chat("good day")]
    expected = [idefics.answers(one)[0] for one in asked]
    assert idefics.answers(*asked) == expected


def test_every_family_takes_a_clip_or_says_what_is_missing(family):
    assert family.served.sees == {"image", "video"}
    asked = chat("what happens?", clip(1, 2))
    assert family.served.tokenizer.clips_as_pictures == (family.family.clips == "as their frames")
    if family.served.tokenizer.clips_as_pictures:
        assert len(asked.prompt(family.served).media) == 2
    else:
        with pytest.raises(InvalidRequest, match="torchvision"):
            asked.prompt(family.served)
