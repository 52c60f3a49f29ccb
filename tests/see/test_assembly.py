"""What is put together is what was there before, and transformers opens it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sft.tiny import SHAPE
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers.models.idefics3.modeling_idefics3 import Idefics3VisionTransformer

from lifecycle.errors import LifecycleError
from lifecycle.model.checkpoint import save_checkpoint
from lifecycle.model.decoder import Decoder
from lifecycle.model.tokenizer import train_tokenizer
from lifecycle.see import SeeConfig
from lifecycle.see.assembly import NAMES, Seer, language_model, save, tokenizer_of
from lifecycle.see.data import Writer
from lifecycle.see.stage import answer
from lifecycle.see.vision import TOKENS, VisionTower, pixels, vision_config
from lifecycle.training.remembering import forgotten

CONFIG = SeeConfig(num_layers=2, hidden_size=32, num_heads=2, dtype="fp32")
TALK = [
    {"role": "user", "content": "Why? <think>"},
    {"role": "assistant", "content": "12.", "reasoning_content": "7+5"},
]
"""Without a word of pictures, nor the beginning of one: what those are cut into is joined."""


@pytest.fixture(scope="module")
def parent(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("parent")
    words = train_tokenizer(["What do you see? The picture shows a ball."] * 9, SHAPE.vocab_size)
    save_checkpoint(Decoder(SHAPE, seed=1), SHAPE, words, directory)
    return directory


@pytest.fixture(scope="module")
def assembled(parent, tmp_path_factory):
    decoder, tokenizer = language_model(parent)
    seer = Seer(VisionTower(CONFIG), decoder, CONFIG).eval()
    directory = tmp_path_factory.mktemp("see")
    save(seer, CONFIG, tokenizer, directory)
    return seer, AutoModelForImageTextToText.from_pretrained(directory).eval(), AutoProcessor.from_pretrained(directory)


def noise(*seeds: int) -> np.ndarray:
    return np.stack([np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8) for seed in seeds])


def asked(processor, *pictures: np.ndarray) -> dict[str, torch.Tensor]:
    turn = {"role": "user", "content": [*[{"type": "image"}] * len(pictures), {"type": "text", "text": "What do you see?"}]}
    text = processor.apply_chat_template([turn], add_generation_prompt=True)
    return processor(text=[text], images=[[Image.fromarray(one) for one in pictures]], return_tensors="pt")


@torch.inference_mode()
def last_logits(model, inputs) -> torch.Tensor:
    return model(**inputs).logits[0, -1]


@torch.inference_mode()
def test_the_tower_is_transformers_own():
    tower = VisionTower(CONFIG)
    theirs = Idefics3VisionTransformer._from_config(vision_config(CONFIG)).eval()
    theirs.load_state_dict(tower.state_dict())
    x = pixels(torch.from_numpy(noise(1, 2)))
    torch.testing.assert_close(tower(x), theirs(x).last_hidden_state, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_without_pictures_and_their_words_it_is_its_parent(parent, assembled):
    _, model, processor = assembled
    before, words = AutoModelForCausalLM.from_pretrained(parent).eval(), AutoTokenizer.from_pretrained(parent)
    ids = words.apply_chat_template(TALK, return_tensors="pt", return_dict=True)["input_ids"]
    assert torch.equal(ids, processor.tokenizer.apply_chat_template(TALK, return_tensors="pt", return_dict=True)["input_ids"])
    torch.testing.assert_close(model(ids).logits[..., : len(words)], before(ids).logits[..., : len(words)], rtol=0, atol=1e-6)


def test_reserved_tokens_keep_their_ids_under_new_names(parent, assembled):
    words, renamed = AutoTokenizer.from_pretrained(parent), assembled[2].tokenizer
    assert words.convert_tokens_to_ids(list(NAMES)) == renamed.convert_tokens_to_ids(list(NAMES.values()))


def test_what_the_processor_writes_is_what_training_reads(assembled):
    _, _, processor = assembled
    inputs = asked(processor, *noise(1, 2))
    ids = Writer(processor.tokenizer).document([("What do you see?", "", ())], [0, 1]).ids
    assert inputs["input_ids"][0].tolist() == ids[: inputs["input_ids"].shape[1]]
    assert (inputs["input_ids"] == processor.image_token_id).sum() == 2 * TOKENS
    torch.testing.assert_close(inputs["pixel_values"][0], pixels(torch.from_numpy(noise(1, 2))))


def test_several_turns_are_written_as_the_chat_template_has_them(assembled):
    _, _, processor = assembled
    turns = [("What do you see?", "The picture shows a ball.", ()), ("Where is the ball?", "In the box.", ())]
    told = [
        {"role": role, "content": [*pictures, {"type": "text", "text": text}]}
        for number, turn in enumerate(turns)
        for role, text, pictures in zip(("user", "assistant"), turn[:2], ([{"type": "image"}] if number == 0 else [], []), strict=True)
    ]
    expected = processor(text=[processor.apply_chat_template(told)], images=[[Image.fromarray(noise(1)[0])]])["input_ids"][0]
    told = Writer(processor.tokenizer).document(turns, [0])
    assert told.ids == expected[: len(told.ids)] and len(expected) - len(told.ids) <= 1  # but for a line's end
    said = processor.tokenizer.decode([token for token, one in zip(told.ids, told.learnt, strict=True) if one])
    assert said == "".join(answer + "<|im_end|>" for _, answer, _ in turns)


def test_what_is_read_is_written_sign_by_sign(assembled):
    tokenizer = assembled[2].tokenizer
    told = Writer(tokenizer).document([("Which word is written?", "The word is picture.", ())], [0], read="picture")
    said = [tokenizer.decode([token]) for token, one in zip(told.ids, told.learnt, strict=True) if one]
    assert "".join(said) == "The word is picture.<|im_end|>" and "".join(said[-9:-2]) == "picture" and all(len(one) == 1 for one in said[-9:-2])


@torch.inference_mode()
def test_reloaded_it_answers_as_it_did_in_training(assembled):
    seer, model, processor = assembled
    document = Writer(processor.tokenizer).document([("What do you see?", "A ball.", ())], [0, 1])
    looked = Writer(processor.tokenizer).collate(noise(1, 2), [document])
    inputs = {**asked(processor, *noise(1, 2)), "input_ids": looked.tokens[None], "attention_mask": torch.ones(1, len(looked.tokens))}
    logprobs = model(**inputs).logits[0].log_softmax(-1)
    counted = looked.targets >= 0
    expected = -logprobs[counted].gather(1, looked.targets[counted, None]).mean()
    torch.testing.assert_close(answer(seer, looked).loss, expected, rtol=1e-4, atol=1e-4)


def test_a_picture_changes_the_answer_and_so_does_the_order_of_pictures(assembled):
    _, model, processor = assembled
    one, other = noise(1, 2)
    assert not torch.allclose(last_logits(model, asked(processor, one)), last_logits(model, asked(processor, other)))
    assert not torch.allclose(last_logits(model, asked(processor, one, other)), last_logits(model, asked(processor, other, one)))


def test_what_was_said_without_pictures_is_held_on_to(assembled):
    seer, _, processor = assembled
    writer = Writer(processor.tokenizer)
    told = writer.collate(noise(1)[:0], [writer.document([(*one, ())], []) for one in (("Hello.", "A ball."), ("Where is the ball?", "In the box."))])
    before = seer.decoder
    now = Decoder(before.config, seed=2)
    assert abs(forgotten(before, before, told).item()) < 1e-6
    logprobs = [decoder.lm_head(decoder.model.flat(told.tokens, told.lengths)[: len(told.tokens)]).log_softmax(-1) for decoder in (before, now)]
    was, is_ = (one[told.targets >= 0] for one in logprobs)
    expected = torch.nn.functional.kl_div(is_, was, reduction="batchmean", log_target=True)
    torch.testing.assert_close(forgotten(now, before, told), expected)


def test_a_tokenizer_without_reserved_tokens_is_refused(parent, assembled, tmp_path):
    assembled[2].tokenizer.save_pretrained(tmp_path)
    with pytest.raises(LifecycleError, match="reserve"):
        tokenizer_of(tmp_path)
