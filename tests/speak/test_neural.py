"""Mimi and EnCodec, small and random: their codes are the model's own, and read aloud they are the same sound however they come."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from sft.tiny import WORLD

from lifecycle.errors import LifecycleError
from lifecycle.model.directory import CODEC_DIRECTORY
from lifecycle.speak import SpeakConfig, run
from lifecycle.speak.codecs import load_codec
from lifecycle.speak.neural import NeuralCodec, at_rate
from lifecycle.speak.speaker import Speaker
from lifecycle.speak.stage import held_by
from lifecycle.world.conversations import sft_conversations
from lifecycle.world.speech import ANSWERER, recordings

BOOKS = 2
SMALL = {"num_filters": 4, "codebook_size": 16, "codebook_dim": 8}


def encodec():
    from transformers import EncodecConfig, EncodecModel

    config = EncodecConfig(hidden_size=8, num_lstm_layers=1, target_bandwidths=[0.3, 0.6, 1.2], **SMALL)
    model = EncodecModel(config)
    return model, model.quantizer.layers


def mimi():
    from transformers import MimiConfig, MimiModel

    config = MimiConfig(
        hidden_size=16, vector_quantization_hidden_dimension=8, num_quantizers=4, upsample_groups=16, num_hidden_layers=1,
        intermediate_size=16, num_attention_heads=2, num_key_value_heads=2, head_dim=8, upsampling_ratios=[8, 6, 5, 4], **SMALL,
    )  # fmt: skip
    model = MimiModel(config)
    quantizer = model.quantizer
    return model, [*quantizer.semantic_residual_vector_quantizer.layers, *quantizer.acoustic_residual_vector_quantizer.layers]


@torch.inference_mode()
def fit(model, layer, sound) -> None:
    """Its entries, which are all the same in a new codebook, become some of what it is asked to name."""
    real, asked = layer.encode, []
    layer.encode = lambda latents: (asked.append(latents), real(latents))[1]
    widest = {} if hasattr(model.config, "num_semantic_quantizers") else {"bandwidth": model.config.target_bandwidths[-1]}
    model.encode(sound[None, None], **widest)
    del layer.encode
    latents = asked[0][0].T
    book = layer.codebook
    getattr(book, "embed_sum", book.embed).copy_(latents[torch.linspace(0, len(latents) - 1, book.embed.shape[0]).long()])


@pytest.fixture(scope="module", params=[encodec, mimi], ids=["encodec", "mimi"])
def directory(request, tmp_path_factory) -> Path:
    torch.manual_seed(0)
    model, layers = request.param()
    model.eval()
    sound = torch.from_numpy(np.concatenate([at_rate(one, 24000) for one in list(recordings(ANSWERER).values())[:12]]))
    sound = sound[: len(sound) // 1920 * 1920]
    for layer in layers:
        fit(model, layer, sound)
    made = tmp_path_factory.mktemp("codec")
    model.save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def codec(directory) -> NeuralCodec:
    return NeuralCodec.load(directory, BOOKS)


@pytest.fixture(scope="module")
def sounds() -> list[np.ndarray]:
    return [recordings(ANSWERER)[text] for text in ("Seven.", "Mary.")]


def test_codes_are_those_of_the_model_one_codebook_after_the_other(codec, sounds):
    told = codec.codes_of(sounds)
    for codes, sound in zip(told, sounds, strict=True):
        assert len(codes) == BOOKS * -(-len(at_rate(sound, codec.rate)) // codec.samples_per_frame)
        assert abs(len(codes) * codec.seconds - len(sound) / 16000) < BOOKS * codec.seconds + 1e-3
        assert {code // codec.size for code in codes[::2]} == {0} and {code // codec.size for code in codes[1::2]} == {1}
    assert told[0] != told[1] and len(set(told[0])) > 4
    assert codec.patterns.shape == (codec.codes, 8) == (BOOKS * 16, 8)


def test_a_stream_is_the_same_sound_as_a_whole(codec, sounds):
    codes = codec.codes_of(sounds)[0]
    frames = [[codes[at], codes[at + 1] - codec.size] for at in range(0, len(codes), 2)]
    whole = codec.decode(frames)
    assert whole.shape == (len(frames) * codec.samples_per_frame,) and np.abs(whole).max() > 0
    rng = random.Random(0)
    for most in (1, 5, 40):
        reader, at, found = codec.read(), 0, []
        while at < len(codes):
            count = rng.randint(1, most)
            found.append(reader.push(codes[at : at + count]))
            at += count
        np.testing.assert_allclose(np.concatenate([*found, reader.finish()]), whole, atol=1e-5)


def test_a_code_out_of_turn_is_left_out(codec, sounds):
    codes = codec.codes_of(sounds)[0][:40]
    spoilt = [*codes[:3], codes[2], codes[2], *codes[3:], codes[0]]  # twice a coarse one, and one that nothing follows
    plain, other = codec.read(), codec.read()
    assert np.array_equal(
        np.concatenate([plain.push(codes), plain.finish()]), np.concatenate([other.push(spoilt), other.finish()])
    )


def test_saved_it_is_the_same(codec, sounds, tmp_path):
    codec.save(tmp_path)
    assert load_codec(tmp_path).codes_of(sounds) == codec.codes_of(sounds)


def test_sound_at_another_rate_is_as_high_as_before():
    tone = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype(np.float32)
    other = at_rate(tone, 24000)
    assert other.dtype == np.float32 and np.abs(np.fft.rfft(other)).argmax() == 440
    assert np.abs(other).max() == pytest.approx(1, abs=0.01)


def test_what_cannot_be_used_says_why(directory, tmp_path):
    with pytest.raises(LifecycleError, match="between 1 and 4"):
        NeuralCodec.load(directory, 9)
    with pytest.raises(LifecycleError, match="holds no codec"):
        NeuralCodec.load(tmp_path, 2)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(LifecycleError, match="type llama"):
        NeuralCodec.load(tmp_path, 2)


def test_a_codec_that_has_changed_is_another_one(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    before = held_by(tmp_path)
    assert held_by(tmp_path) == before and held_by(Path("kyutai/mimi")) is None
    (tmp_path / "config.json").write_text("{ }")
    assert held_by(tmp_path).hash != before.hash


def test_a_language_model_learns_to_speak_with_it_and_is_served(start, directory, codec, sounds):
    from serving.application.speech import Audio
    from serving.infrastructure.speech.codec import CodecSpeech
    from serving.infrastructure.tokenizer import HFTokenizer

    told = dict(zip(("conversations", "data"), sft_conversations(WORLD), strict=True))
    books = BOOKS if codec.seconds > 0.02 else 1
    config = SpeakConfig(codec=str(directory), codebooks=books, utterances=8, batch=4, save_every=2, dtype="fp32")
    version = run(config, start.registry, parent=start.model("sft"), **told)
    codec_version = start.registry.load(version.manifest.parents[1].ref)
    assert codec_version.manifest.config == {"codec": str(directory), "codebooks": books}
    if books == 1:
        with pytest.raises(LifecycleError, match="--set codebooks=1"):
            run(dataclasses.replace(config, codebooks=4), start.registry, parent=start.model("sft"), **told)
    again = run(dataclasses.replace(config, utterances=12), start.registry, parent=start.model("sft"), **told)
    assert again.manifest.parents[1].ref == codec_version.ref
    speaker = Speaker(version.path)
    assert len(speaker.listen(sounds, longest=12)) == 2
    codes = load_codec(Path(version.path) / CODEC_DIRECTORY).codes_of(sounds)[0]
    served = CodecSpeech(Path(version.path), HFTokenizer(Path(version.path)))
    assert len(served.tokens) == speaker.codec.codes and served.write(Audio(sounds[0], 16000)).count("<|audio_") > 10
    reader = served.read()
    pieces = [reader.push([served.tokens.start + code for code in codes]), reader.finish()]
    assert {piece.rate for piece in pieces} == {24000} == {served.rate}
    np.testing.assert_array_equal(np.concatenate([piece.samples for piece in pieces]), speaker.sound(codes))
