"""With real ears, a real mouth, and a real model that learned its answers by heart: a recording goes in, an answer comes out."""

from __future__ import annotations

import io
import re
import wave

import numpy as np
import pytest
import torch

from lifecycle.model.checkpoint import save_checkpoint
from lifecycle.model.decoder import Decoder
from lifecycle.model.presets import ModelConfig
from lifecycle.model.tokenizer import train_tokenizer
from serving.application.speech import Audio, SpeechEngines
from serving.infrastructure.catalog import Catalog
from serving.infrastructure.speech.config import load_activity, load_hearing, load_speaking
from tests.serving.browser.pupil import encode, learn, user
from tests.serving.speech.voices import voice_config

from .conftest import talk_to
from .modem import RATE

LESSONS = (("Where is the red key?", "The red key is in the box."), ("Who has the drum?", "Anna has the drum."))


@pytest.fixture(scope="module")
def engines():
    pytest.importorskip("moonshine_voice")
    config = voice_config()
    ears, mouth, activity = load_hearing(config), load_speaking(config), load_activity(config)
    return SpeechEngines(lambda: ears, lambda: mouth, lambda: activity)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """It was told both answers, with and without the question marks that ears may hear."""
    from serving.composition import ServingConfig, build_engine

    torch.manual_seed(0)
    tokenizer = train_tokenizer([text for lesson in LESSONS for text in lesson] * 8 + ["user assistant"], 330)
    config = ModelConfig(
        vocab_size=330, hidden_size=64, num_layers=2, num_heads=2, num_kv_heads=1, intermediate_size=128, context_length=1024
    )
    model = Decoder(config)
    first, second = LESSONS
    lessons = [(user(re.sub(r"\?$", end, question)), None, answer) for question, answer in LESSONS for end in "?.!"]
    told = [*user(first[0]), {"role": "assistant", "content": first[1]}]
    lessons += [(told + user(re.sub(r"\?$", end, second[0])), None, second[1]) for end in "?.!"]
    learn(model, [encode(tokenizer, *lesson) for lesson in lessons])
    directory = tmp_path_factory.mktemp("pupil")
    save_checkpoint(model, config, tokenizer, directory)
    served = build_engine(directory, ServingConfig(dtype="float32", kv_memory_mb=16, block_size=8), name="parrot")
    yield Catalog([served])
    served.engine.close()


def recorded(engines: SpeechEngines, text: str) -> bytes:
    """A WAV file of 24 kHz in which somebody says this, between two silences."""
    spoken = [chunk.audio.samples for chunk in engines.to_speech().speak(text, "am_michael")]
    samples = np.concatenate([np.zeros(RATE // 2), *spoken, np.zeros(RATE)])
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE)
        writer.writeframes((samples * 32767).astype("<i2").tobytes())
    return file.getvalue()


def played(recording: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(recording)) as reader:
        return np.frombuffer(reader.readframes(reader.getnframes()), "<i2") / 32768


def words(text: str) -> str:
    return " ".join(re.findall(r"[a-z]+", text.lower()))


def test_a_recording_comes_back_as_a_spoken_right_answer(serve, catalog, engines):
    with talk_to(serve(catalog, engines)) as talk:
        talk.update(audio={"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}})
        for question, expected in LESSONS:
            talk.send(played(recorded(engines, question)))
            understood = talk.until("conversation.item.input_audio_transcription.completed").transcript
            assert words(understood) == words(question)
            answer = talk.answer()
            assert answer.output[0].content[0].transcript == expected
            sound = talk.sound(answer)
            assert words(engines.to_text().transcribe(Audio(sound, RATE)).text) == words(expected)
    assert answer.usage.input_token_details.cached_tokens > 0, "the first turn is in the prefix cache"
