"""Words of pictures are one token each; text that has none of them stays as it was."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from lifecycle.model.decoder import Decoder
from lifecycle.model.presets import ModelConfig
from lifecycle.model.tokenizer import train_tokenizer
from lifecycle.model.widening import fitted
from lifecycle.see.data import Writer
from lifecycle.see.untold import untold
from lifecycle.see.vocabulary import knowing, with_words
from lifecycle.training.batches import Batch
from lifecycle.training.remembering import forgotten
from lifecycle.world.config import WorldConfig
from lifecycle.world.corpus import documents
from lifecycle.world.sights import clips, scenes, words


@pytest.fixture(scope="module")
def known() -> PreTrainedTokenizerBase:
    """What the text world teaches."""
    return train_tokenizer((one.text for one in documents(WorldConfig(documents=1500, max_sentences=8), random.Random(0))), 1536)


def test_answers_in_place_of_others_are_the_same_piece_by_piece(known):
    writer = Writer(with_words(known))
    for shown in (*itertools.islice(scenes(5), 80), *itertools.islice(clips(5), 20)):
        for question in shown.questions():
            others = untold(shown, question.answer)
            for text in (question.answer, *others[:5], *others[-5:]):
                assert writer._instead(text, "") == writer._said(text, "")


def ids(tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def test_each_word_is_one_token_and_comes_back_as_it_was(known):
    tokenizer = with_words(known)
    assert len(ids(known, " snowman")) > 1
    for name in (*words.DRAWINGS, *words.SHAPES):
        for word in (name, words.plural(name)):
            assert len(ids(tokenizer, f" {word}")) == 1, word
            assert tokenizer.decode(ids(tokenizer, f"Two {word}.")) == f"Two {word}."
    assert with_words(tokenizer).get_vocab() == tokenizer.get_vocab()  # nothing is left to be learnt


def test_ids_and_other_text_stay(known):
    tokenizer = with_words(known)
    assert known.get_vocab().items() <= tokenizer.get_vocab().items()
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))
    for text in ("Ben was in the kitchen.", "<|im_start|>user\n12 + 34 = ?<|im_end|>\n", '<tool_call>{"a": 1}</tool_call>'):
        assert ids(tokenizer, text) == ids(known, text)
    assert tokenizer.all_special_tokens == known.all_special_tokens and tokenizer.chat_template == known.chat_template


@torch.inference_mode()
def test_known_tokens_have_the_logits_that_they_had_and_plurals_are_like_their_singulars(known):
    before = Decoder(ModelConfig(vocab_size=len(known), hidden_size=32, num_layers=2, num_heads=2, num_kv_heads=2, intermediate_size=48))
    tokenizer = with_words(known)
    wider = knowing(before, tokenizer, len(known))
    text = torch.tensor([ids(known, "Ben was in the kitchen.")])
    torch.testing.assert_close(wider(text)[..., : before.config.vocab_size], before(text), rtol=0, atol=1e-6)
    rows = wider.model.embed_tokens.weight
    rows = torch.nn.functional.normalize(rows - rows[: len(known)].mean(0), dim=1)
    (one,), (many,), (other,) = (ids(tokenizer, f" {word}") for word in ("snowman", "snowmans", "octopus"))
    assert rows[one] @ rows[many] > 0.8 > 0.5 > rows[one] @ rows[other]


@torch.inference_mode()
def test_rows_that_stand_for_no_token_are_left_out(known):
    planned = ModelConfig(vocab_size=len(known) + 1000, hidden_size=32, num_layers=2, num_heads=2, num_kv_heads=2, intermediate_size=48)
    before = Decoder(planned)
    right = fitted(before, len(known))
    tokenizer = with_words(known)
    wider = knowing(right, tokenizer, len(known))
    text = torch.tensor([ids(known, "Ben was in the kitchen.")])
    assert len(tokenizer) <= wider.config.vocab_size < planned.vocab_size
    for model in (right, wider):
        torch.testing.assert_close(model(text)[..., : len(known)], before(text)[..., : len(known)], rtol=0, atol=1e-6)
    assert fitted(right, len(known)) is right


@torch.inference_mode()
def test_what_goes_to_words_that_it_did_not_know_is_forgotten_of_those_that_it_did(known):
    before = Decoder(ModelConfig(vocab_size=len(known), hidden_size=32, num_layers=2, num_heads=2, num_kv_heads=2, intermediate_size=48), seed=3)
    wider = knowing(before, with_words(known), len(known))
    tokens = torch.tensor(ids(known, "Ben was in the kitchen. Then he had a red ball."))
    told = Batch(tokens[:-1], tokens[1:], torch.tensor([len(tokens) - 1]), len(tokens) - 1)
    share = wider(tokens[None]).softmax(-1)[..., len(known) :].sum(-1)[0, :-1]
    torch.testing.assert_close(forgotten(wider, before, told), -(1 - share).log().mean(), rtol=1e-3, atol=1e-4)
    assert share.mean() > 0.1
