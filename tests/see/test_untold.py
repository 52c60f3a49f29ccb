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
from lifecycle.see.untold import untold, ways_on
from lifecycle.see.vision import VisionTower
from lifecycle.world.sights import clips, scenes, words
from lifecycle.world.sights.holdout import colour_is_held_out, count_is_held_out, place_is_held_out, writing_is_held_out


def test_no_true_answer_of_a_training_picture_is_left_out():
    shown = [*itertools.islice(scenes(2), 150), *itertools.islice(clips(2), 30)]
    for one in shown:
        for question in one.questions():
            assert question.answer not in untold(one, question.answer)


def test_every_combination_that_is_held_out_is_unless_an_answer_that_may_be_given_begins_alike():
    for scene in itertools.islice(scenes(3, kinds=["position", "colour", "count"]), 200):
        for question in scene.questions():
            others, word = untold(scene, question.answer), question.answer.split()[1]
            if question.skill == "position":
                (never,) = [place for place in words.PLACES if place_is_held_out(word, place)]
                said = question.answer.removesuffix(".").split(" the ")[1]
                alone = never.split()[0] == said.split()[0] or never == "middle" or {never, said} == {"left", "right"}
                assert others == ([f"The {word} is {words.at(never)}."] if alone else [])
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
    others = untold(scene, naming.answer)
    article = words.a(item.word).split()[0]
    never = [word for word in (*words.SEEN, *words.SHAPES) if place_is_held_out(word, item.place) and words.a(word).split()[0] == article]
    assert never and others == [f"The picture shows {words.a(word)}." for word in never]


def test_colours_in_the_middle_of_an_answer():
    scene = next(one for one in scenes(4, kinds=["colour"]) if len(one.items) == 1)
    (item,) = scene.items
    (naming,) = [question for question in scene.questions() if question.skill == "object"]
    shapes = [shape for shape in words.SHAPES if colour_is_held_out(shape, item.colour)]
    colours = [colour for colour in words.COLOURS if colour_is_held_out(item.word, colour)]
    others = untold(scene, naming.answer)
    assert [f"The picture shows a {colour} {item.word}." for colour in colours] == others[: len(colours)]
    assert {f"The picture shows a {item.colour} {shape}." for shape in shapes} <= set(others)
    assert not [other for other in others if any(f" {name}." in other for name in words.SEEN)]  # a drawing has no colour


def test_words_that_are_never_written_unless_one_that_may_be_begins_alike():
    left_out = 0
    for scene in itertools.islice((one for one in scenes(5, kinds=["digits"]) if one.items[0].word.isalpha()), 30):
        (reading,), word = scene.questions(), scene.items[0].word
        others = [other for other in words.WRITTEN if other != word]
        may_be = {parting(word, other) for other in others if not writing_is_held_out(other)}
        never = [other for other in others if writing_is_held_out(other) and parting(word, other) not in may_be]
        assert untold(scene, reading.answer) == [f"The word is {other}." for other in never]
        left_out += len(never)
    assert left_out


def parting(word: str, other: str) -> tuple[int, str]:
    """The first sign in which another word differs, with its place."""
    return next((place, two) for place, (one, two) in enumerate(zip(f"{word}.", f"{other}.", strict=False)) if one != two)


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
