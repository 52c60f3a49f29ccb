"""Prefix caching and preemption with pictures: a block is the same only with the same picture, and pictures survive a restart."""

from __future__ import annotations

import gc
import weakref

import pytest

from .conftest import CONFIG, PATIENCE, chat, collect, picture, seeing

BLOCK = CONFIG["block_size"]


def cut_picture(name: str, seed: int):
    """A question whose first picture has a block boundary inside, and a different beginning for every `name`."""
    return chat(f"{name}: what", picture(seed), "is it, and why is it that and nothing else?")


def test_the_same_picture_again_is_read_from_the_cache(family):
    asked = cut_picture("again", 11)
    placed = asked.prompt(family.served).media[0]
    assert placed.start // BLOCK < (placed.stop - 1) // BLOCK, "a boundary inside the picture"
    expected = family.generate(asked)
    first, second = (collect(family.start(asked)) for _ in range(2))
    assert first[0] == second[0] == expected
    assert first[1].cached_tokens < placed.stop < second[1].cached_tokens + BLOCK


def test_another_picture_of_the_same_size_is_not(family):
    one, other = cut_picture("other", 12), cut_picture("other", 13)
    assert one.prompt(family.served).tokens == other.prompt(family.served).tokens
    collect(family.start(one))
    tokens, end = collect(family.start(other))
    assert end.cached_tokens == one.prompt(family.served).media[0].start // BLOCK * BLOCK
    assert tokens == family.generate(other) != family.generate(one)


def test_a_second_turn_goes_on_behind_the_picture(family):
    """The cached prefix ends inside the first picture, behind it, or behind the answer: the rest is computed as ever."""
    opening = {"role": "user", "content": [{"type": "text", "text": "look "}, {"type": "image"}]}
    asked = chat("look ", picture(14))
    collect(family.start(asked))
    again = chat("and now?", before=(opening, {"role": "assistant", "content": "a dog"}))
    again = type(again)(again.messages, media=asked.media)
    tokens, end = collect(family.start(again))
    assert end.cached_tokens > 0 and tokens == family.generate(again)


def test_whoever_is_preempted_keeps_its_pictures(family):
    """New weights stop everybody half-way, and void what was seen and computed."""
    engine = family.served.engine
    asked = [chat(f"{at} what is this?", picture(20 + at)) for at in range(6)]
    expected = [family.generate(one) for one in asked]
    before = engine.stats().preemptions
    streams = [family.start(one) for one in asked]
    early = streams[0].next(PATIENCE)
    engine.update_weights(family.model.state_dict())
    answers = [collect(stream, early if at == 0 else ())[0] for at, stream in enumerate(streams)]
    assert answers == expected
    assert engine.stats().preemptions > before


@pytest.mark.parametrize("size", [1, 4, 16])
def test_blocks_of_every_size(tmp_path, size):
    family = seeing("qwen2_5_vl", tmp_path, block_size=size, num_blocks=1024 // size)
    asked = [chat("what is this?", picture(1)), chat("what is this?", picture(2)), chat(picture(1), picture(2), "?")]
    expected = [family.generate(one) for one in asked]
    assert family.answers(*asked) == expected == family.answers(*asked)
    family.served.engine.close()


def test_pixels_are_freed_when_the_request_ends(idefics):
    asked = chat("once", picture(31))
    generation = idefics.start(asked)
    collect(generation)
    prompt = asked.prompt(idefics.served)
    pixels = weakref.ref(prompt.media[0].inputs["pixel_values"])
    stream = idefics.submit(prompt)
    del prompt
    collect(stream)
    idefics.answers(chat("and something else"))  # a step of the engine that knows nothing of it any more
    gc.collect()
    assert pixels() is None
