"""What is left out of the choice is what training never says, and nothing else."""

from __future__ import annotations

import itertools

import torch

from lifecycle.model.decoder import IGNORE, Decoder
from lifecycle.model.presets import ModelConfig
from lifecycle.see import SeeConfig
from lifecycle.see.assembly import Seer
from lifecycle.see.data import Looked
from lifecycle.see.stage import answer
from lifecycle.see.untold import said, untold, ways_on
from lifecycle.see.vision import VisionTower
from lifecycle.world.sights import clips, scenes, words
from lifecycle.world.sights.holdout import (
    colour_is_held_out,
    count_is_held_out,
    couple_is_held_out,
    event_is_held_out,
    place_is_held_out,
    writing_is_held_out,
)
from lifecycle.world.sights.questions import said_in


def test_no_true_answer_of_a_training_picture_is_left_out():
    shown = [*itertools.islice(scenes(2), 150), *itertools.islice(clips(2), 30)]
    for one in shown:
        assert one.caption() not in untold(one, one.caption())
        for question in one.questions():
            told, others = said(question.answer, question.thought), untold(one, question.answer, question.thought)
            assert told not in others and not [other for other in others if told.startswith(f"{other} ")]


def test_every_combination_that_is_held_out_is():
    for scene in itertools.islice(scenes(3, kinds=["position", "colour", "count"]), 200):
        for question in scene.questions():
            others, word = untold(scene, question.answer), question.answer.split()[1]
            if question.skill == "position":
                assert others == [f"The {word} is {words.at(place)}." for place in words.PLACES if place_is_held_out(word, place)]
            if question.skill == "colour" and question.answer.startswith("The"):
                assert others == [f"The {word} is {colour}." for colour in words.COLOURS if colour_is_held_out(word, colour)]
            if question.skill == "count":
                start, said = question.answer.removesuffix(".").rsplit(" ", 1)
                counted = next(item.word for item in scene.items if words.plural(item.word) == start.split()[3])
                never = [f"{start} {count}." for n, count in enumerate(words.COUNTS, 1) if count_is_held_out(counted, n)]
                assert others == never and said not in never


def test_names_in_a_place_where_they_never_are():
    scene = next(one for one in scenes(4, kinds=["position"]) if len(one.items) == 1 and one.items[0].kind == "drawing")
    (item,) = scene.items
    (naming,) = [question for question in scene.questions() if question.skill == "object"]
    told = untold(scene, naming.answer)
    never = [word for word in (*words.SEEN, *words.SHAPES) if place_is_held_out(word, item.place) and words.a(word)[:2] == words.a(item.word)[:2]]
    assert never and told == [f"The picture shows {words.a(word)}." for word in never]


def test_the_colour_of_what_is_named_is_not_taught_to_be_wrong():
    found = 0
    for scene in itertools.islice(scenes(8, kinds=["object", "colour"]), 200):
        for text in (scene.caption(), *(question.answer for question in scene.questions() if question.skill == "object")):
            for item in scene.items:
                if item.colour and text.startswith("The picture shows") and f"{item.colour} {item.word}" in text:
                    told = {text.replace(f"{item.colour} {item.word}", f"{colour} {item.word}") for colour in words.COLOURS if colour_is_held_out(item.word, colour)}
                    assert told <= set(untold(scene, text))
                    found += 1
    assert found > 30


def test_what_never_happens_to_something_is_not_taught_to_be_wrong():
    asked = [(clip, question) for clip in itertools.islice(clips(9), 200) for question in clip.questions()]
    seen = set()
    for clip, question in asked:
        told = untold(clip, question.answer, question.thought)
        word = said_in(question.answer)[0]
        if question.answer.startswith("The ") and " turns " in question.answer:
            seen.add("turns")
            assert {f"The {word} {event}." for event in ("appears", "vanishes") if event_is_held_out(word, event)} <= set(told)
        if question.answer.startswith("What appears "):
            seen.add("order")
            start = question.answer.rsplit(" ", 1)[0]
            assert {f"{start} {name}." for name in words.SEEN if event_is_held_out(name, "appears")} - {question.answer} <= {*told, *(f"{start} {a.item.word}." for a in clip.actors)}
    assert seen == {"turns", "order"}

def test_thoughts_that_put_something_where_it_never_is_or_stop_where_counting_never_does():
    for scene in itertools.islice(scenes(6, kinds=["count"]), 60):
        for question in (one for one in scene.questions() if one.skill == "count"):
            word = said_in(question.answer)[0]
            (lacks,) = [place for place in words.PLACES if place_is_held_out(word, place)]
            places = sorted((item.place for item in scene.items if item.word == word), key=list(words.PLACES).index)
            steps = [f"{count} {place}" for count, place in zip(words.COUNTS, places, strict=False)]
            never = set()
            for number in range(len(steps)):
                there = " ".join([*steps[:number], f"{words.COUNTS[number]} {lacks}"])
                never |= {f"<think>{there}</think>", *(f"<think>{there} {count}" for count in words.COUNTS[number + 1 : number + 2])}
                if number and count_is_held_out(word, number):
                    never.add(f"<think>{' '.join(steps[:number])}</think>")
            if len(steps) < 5 and all(count_is_held_out(word, number) for number in range(len(steps) + 1, 6)):
                never.add(f"<think>{question.thought} five")
            others = untold(scene, question.answer, question.thought)
            assert {other for other in others if not other.startswith(said("", question.thought))} == never


def test_thoughts_that_find_two_together_that_never_are():
    asked = [(scene, question) for scene in itertools.islice(scenes(7, kinds=["relation"]), 60) for question in scene.questions()]
    beside = [(scene, question) for scene, question in asked if question.thought.count(" ") == 6]
    assert len(beside) > 20
    for scene, question in beside:
        _, first, where, second, *_ = question.thought.split()
        others = untold(scene, question.answer, question.thought)
        never = [word for word in (*words.SEEN, *words.SHAPES) if word != first and couple_is_held_out(first, word)]
        assert {f"<think>{question.thought.split()[0]} {first} {where} {word}" for word in never} <= {*others}
        assert not couple_is_held_out(first, second)


def test_words_that_are_never_written():
    scene = next(one for one in scenes(5, kinds=["digits"]) if one.items[0].word.isalpha())
    (reading,) = scene.questions()
    assert untold(scene, reading.answer) == [f"The word is {word}." for word in words.WRITTEN if writing_is_held_out(word)]


def test_where_answers_part():
    assert ways_on([1, 2, 3], [[1, 5, 3], [1, 2, 4], [1, 2, 3], [1, 5, 9], [1, 2]]) == [(1, 5), (2, 4)]


def test_a_token_that_is_left_out_is_not_learnt_to_be_wrong():
    config = SeeConfig(num_layers=1, hidden_size=32, num_heads=2)
    shape = ModelConfig(vocab_size=64, hidden_size=32, num_layers=1, num_heads=2, num_kv_heads=2, intermediate_size=64, context_length=64)
    seer = Seer(VisionTower(config), Decoder(shape, seed=1), config)
    none = torch.zeros(0, dtype=torch.int64)
    looked = Looked(
        torch.zeros(1, 64, 64, 3, dtype=torch.uint8), torch.arange(1, 6), torch.tensor([IGNORE, IGNORE, 4, 5, 6]), torch.tensor([5]),
        none, none, torch.tensor([[3, 9], [4, 9]]),
    )  # fmt: skip
    hidden = seer.decoder.model.flat(looked.tokens, looked.lengths)[2:5]
    logits = seer.decoder.lm_head(hidden).detach()
    logits[1:, 9] = -torch.inf
    torch.testing.assert_close(answer(seer, looked).loss, torch.nn.functional.cross_entropy(logits, torch.tensor([4, 5, 6])))
