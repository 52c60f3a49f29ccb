"""A model that hears and speaks itself, served: its sound is what it writes alone, whole or in pieces, whoever else is answered."""

from __future__ import annotations

import base64
import io
import shutil
import sys
import time
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openai
import pytest
import torch
from transformers import AutoModelForCausalLM

from lifecycle.errors import LifecycleError
from lifecycle.model.checkpoint import save_checkpoint
from lifecycle.model.decoder import Decoder
from lifecycle.model.directory import CODEC_DIRECTORY
from lifecycle.model.presets import ModelConfig
from lifecycle.model.tokenizer import train_tokenizer
from lifecycle.speak.codec import CODES, FILE, Aloud, Codec, blocks, voiced
from lifecycle.speak.data import Writer, answers, heard_codes
from lifecycle.speak.sound import spectrogram
from lifecycle.speak.tokens import add_codes, extended
from lifecycle.world.speech import ANSWERER, RATE, exchanges, recordings
from serving.application.chat import GenerateChat
from serving.application.rendering import RenderChat
from serving.application.speech import Audio
from serving.composition import build_engine
from serving.domain.errors import Conflict
from serving.infrastructure.config import ServingConfig
from serving.infrastructure.speech.codec import FAR, spoken_part
from serving.infrastructure.speech.encoding import pcm16, wav_header
from serving.infrastructure.speech.voice import build_voice
from serving.presentation.app import create_app
from serving.presentation.local import run_in_thread

sys.path.insert(0, str(Path(__file__).parents[1] / "http"))
from scripted_engine import Catalog  # noqa: E402

pytest.importorskip("av")
SHAPE = ModelConfig(
    vocab_size=420, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=48, context_length=512,
    tie_embeddings=False,
)
CONFIG = ServingConfig(num_blocks=128, dtype="float32", device="cpu", max_num_seqs=8, max_num_batched_tokens=64)
TOKENS = 48
GREEDY = {"temperature": 0, "max_tokens": TOKENS}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """Random weights, as large as it takes for the answer to follow from the sound: codes and words in turn."""
    directory = tmp_path_factory.mktemp("model")
    words = train_tokenizer([one.answer for one in exchanges()], SHAPE.vocab_size)
    mels = [spectrogram(sound) for sound in answers().values()]
    x = torch.cat([blocks(mel)[0] for mel in mels])
    patterns = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:CODES]]
    first = add_codes(words, CODES)
    decoder = extended(Decoder(SHAPE, seed=1), first, patterns, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in decoder.named_parameters():
            if "layers" in name and weight.ndim == 2:
                weight *= 4
            elif weight.ndim == 2:
                weight.normal_(generator=generator)
    save_checkpoint(decoder, decoder.config, words, directory)
    voiced(patterns, mels).save(directory / CODEC_DIRECTORY)
    return directory


@pytest.fixture(scope="module")
def served(checkpoint):
    model = build_engine(checkpoint, CONFIG, name="tiny")
    yield model
    model.engine.close()


@pytest.fixture(scope="module")
def client(served):
    app = create_app(Catalog(served), voice=build_voice(ServingConfig()))
    with (
        run_in_thread(app) as server,
        openai.OpenAI(base_url=server.url + "/v1", api_key="me", max_retries=0, timeout=120) as client,
    ):
        yield client


def said(text: str) -> dict:
    """A recording as a part of a message."""
    return sound(recordings(ANSWERER)[text])


def sound(samples: np.ndarray) -> dict:
    data = pcm16(samples)
    encoded = base64.b64encode(wav_header(RATE, len(data)) + data).decode()
    return {"type": "input_audio", "input_audio": {"data": encoded, "format": "wav"}}


def ask(client, part, form="wav", **fields):
    audio = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": form}}
    return client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": [part]}], **{**GREEDY, **audio, **fields})


def samples_of(message) -> np.ndarray:
    with wave.open(io.BytesIO(base64.b64decode(message.audio.data))) as file:
        assert file.getframerate() == RATE
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def alone(checkpoint: Path, served, text: str) -> list[int]:
    """What transformers' own loop writes after the same sound."""
    codec = Codec.load(checkpoint / CODEC_DIRECTORY)
    writer = Writer(served.tokenizer._tokenizer, codec, served.speech.tokens.start)
    heard = np.frombuffer(pcm16(recordings(ANSWERER)[text]), "<i2").astype(np.float32) / 32768
    prompt = torch.tensor([writer.asked(heard_codes(codec, [heard])[0])])
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    return model.generate(prompt, max_new_tokens=TOKENS, do_sample=False)[0, prompt.shape[1] :].tolist()


@pytest.mark.parametrize("text", ["Seven.", "What does a cat say?"])
def test_its_answer_is_the_one_that_it_writes_alone(client, served, checkpoint, text):
    written = alone(checkpoint, served, text)
    codes = [token - served.speech.tokens.start for token in written if token in served.speech.tokens]
    assert len(codes) > 10
    aloud = Aloud(Codec.load(checkpoint / CODEC_DIRECTORY))
    expected = np.concatenate([aloud.push(codes), aloud.finish()])
    choice = ask(client, said(text)).choices[0]
    assert choice.message.content is None and choice.message.audio.transcript
    np.testing.assert_array_equal(samples_of(choice.message), np.frombuffer(pcm16(expected), "<i2"))
    assert choice.message.audio.transcript == served.tokenizer.decode(written)


def test_streamed_it_sounds_as_it_does_whole(client):
    whole = ask(client, said("Mary."), "pcm16").choices[0].message.audio
    chunks = list(ask(client, said("Mary."), "pcm16", stream=True))
    deltas = [chunk.choices[0].delta.audio for chunk in chunks if chunk.choices and chunk.choices[0].delta.audio]
    assert b"".join(base64.b64decode(one.data) for one in deltas if one.data) == base64.b64decode(whole.data)
    assert "".join(one.transcript or "" for one in deltas) == whole.transcript
    assert sum(bool(one.data) for one in deltas) > 2 and deltas[-1].expires_at and len({one.id for one in deltas}) == 1
    assert chunks[-1].choices[0].finish_reason == "length"


def test_beside_texts_it_says_what_it_says_alone(client):
    def write(number: int) -> str:
        asked = [{"role": "user", "content": f"Number {number}"}]
        return client.chat.completions.create(model="tiny", messages=asked, **GREEDY).choices[0].message.content

    texts = [write(number) for number in range(4)]
    quiet = samples_of(ask(client, said("Seven.")).choices[0].message)
    with ThreadPoolExecutor(8) as pool:
        heard = [pool.submit(ask, client, said("Seven.")) for _ in range(3)]
        read = [pool.submit(write, number) for number in range(4)]
        assert [one.result() for one in read] == texts
        for one in heard:
            np.testing.assert_array_equal(samples_of(one.result().choices[0].message), quiet)


def test_who_wants_to_read_gets_the_text_alone(client, served):
    forced = {"logit_bias": {str(served.speech.begin): 100}, "max_tokens": 5}
    message = [{"role": "user", "content": [said("Seven.")]}]
    answer = client.chat.completions.create(model="tiny", messages=message, **{**GREEDY, **forced})
    assert answer.choices[0].finish_reason == "stop" and answer.usage.completion_tokens <= 1
    assert answer.choices[0].message.audio is None
    assert ask(client, said("Seven."), **forced).usage.completion_tokens == 5, "aloud it goes on"


def test_a_conversation_goes_on_from_what_was_said_aloud(client):
    before = ask(client, said("Mary.")).choices[0].message.audio
    messages = [
        {"role": "user", "content": [said("Mary.")]},
        {"role": "assistant", "audio": {"id": before.id}},
        {"role": "user", "content": [said("Seven.")]},
    ]
    prompt = client.post("/chat/render", body={"model": "tiny", "messages": messages}, cast_to=dict[str, object])["prompt"]
    assert prompt.count("<|im_start|>user\n<|audio|><|audio_") == 2
    assert f"<|im_start|>assistant\n{before.transcript}<|im_end|>" in prompt


def test_whoever_leaves_takes_nothing_along(client, served):
    stream = ask(client, said("Seven."), "pcm16", stream=True, max_tokens=400, extra_body={"ignore_eos": True})
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.audio:
            break
    stream.close()
    until = time.monotonic() + 20
    while served.engine.unfinished() and time.monotonic() < until:
        time.sleep(0.05)
    assert not served.engine.unfinished() and served.engine.stats().kv_used == 0


@pytest.mark.parametrize(
    ("samples", "words"),
    [(np.zeros(RATE, np.float32), "nobody speaks in"), (np.full(25 * RATE, 0.1, np.float32), "this model hears at most 20 s")],
)
def test_what_it_cannot_hear_is_refused_with_its_place(client, samples, words):
    with pytest.raises(openai.BadRequestError, match=words) as error:
        ask(client, sound(samples))
    assert error.value.param == "messages[0].content[0].input_audio.data"


def test_a_long_silence_around_what_is_said_is_not_listened_to(served):
    whole = recordings(ANSWERER)["What does a cat say?"]
    silence = np.random.default_rng(0).normal(0, 1e-3, 3 * RATE).astype(np.float32)
    near, far = (spoken_part(one) for one in (whole, np.concatenate([silence, whole, silence])))
    np.testing.assert_array_equal(near, whole)
    assert abs(len(far) - len(near)) < 2 * FAR * RATE and served.speech.write(Audio(far, RATE)).count("audio_") < 100


def test_it_is_known_to_hear(client):
    assert client.models.retrieve("tiny").capabilities == ["audio"]


def test_a_model_that_heard_nothing_is_not_asked(served):
    command = GenerateChat(RenderChat([{"role": "user", "content": "Hello"}]), heard_by=object())
    with pytest.raises(Conflict, match="replaced while it listened"):
        command.start(served)


@pytest.mark.parametrize("damage", ["codec", "tokens"])
def test_a_damaged_codec_is_not_served(checkpoint, tmp_path, damage):
    directory = tmp_path / "model"
    shutil.copytree(checkpoint, directory)
    if damage == "codec":
        (directory / CODEC_DIRECTORY / FILE).write_bytes(b"nonsense")
    else:
        train_tokenizer(["hello"], 300).save_pretrained(directory)
    with pytest.raises(LifecycleError, match="codec"):
        build_engine(directory, CONFIG)
