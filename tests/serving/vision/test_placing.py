"""Where pictures are in a prompt: the same from every thread, and part of what makes two prompts alike."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from serving.application.recorder import content
from serving.domain.request import Request

from .conftest import chat, picture


def test_many_threads_place_as_one_does(family):
    asked = [chat(f"{seed}? ", picture(seed), picture(seed + 1, 24, 40)) for seed in range(12)]
    alone = [one.prompt(family.served) for one in asked]
    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(lambda one: one.prompt(family.served), asked)) == alone


def test_every_placeholder_is_one_picture_s(family):
    prompt = chat("a", picture(1), "b", picture(2, 20, 44), picture(1), "c").prompt(family.served)
    first, second, again = prompt.media
    assert first.digest == again.digest != second.digest
    places = [at for one in prompt.media for start, stop in one.spans for at in range(start, stop)]
    assert places == sorted(places) and len(places) == sum(one.size for one in prompt.media)
    assert {prompt.tokens[at] for at in places} == {family.model.config.image_token_id}
    assert prompt.tokens.count(family.model.config.image_token_id) == len(places)
    inside = [run for one in prompt.media for run in one.within(5, len(prompt.tokens) - 5)]
    assert sum(count for _, _, count in inside) == len([at for at in places if 5 <= at < len(prompt.tokens) - 5])


def test_a_recording_tells_pictures_apart(idefics):
    def numbers(seed: int) -> list[int]:
        prompt = chat("and what is this?", picture(seed), "in so many words, please").prompt(idefics.served)
        return list(content(Request("a", prompt.tokens, media=prompt.media)))

    assert numbers(1) == numbers(1)
    assert numbers(1)[0] == numbers(2)[0] and numbers(1)[-1] != numbers(2)[-1]
