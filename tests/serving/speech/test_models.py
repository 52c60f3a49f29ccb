"""The default voices themselves: what is said is what is heard."""

import numpy as np
import pytest

from serving.application.speech import Audio
from serving.bench.word_errors import word_error_rate, words
from serving.domain.errors import InvalidRequest

SAID = (
    "The cat is in the red box.",
    "Anna has three apples and buys two more.",
    "What is seventeen plus twenty-five?",
    "Tom put the key under the table.",
    "My favourite colour is blue.",
)


@pytest.fixture(scope="module")
def utterances(kokoro):
    return [next(kokoro.speak(text, ("af_heart", "am_michael")[at % 2])) for at, text in enumerate(SAID)]


def test_what_is_said_is_what_is_heard(utterances, moonshine):
    heard = [moonshine.transcribe(chunk.audio).text for chunk in utterances]
    assert word_error_rate([chunk.text for chunk in utterances], heard) <= 0.1


def test_segments_lie_within_the_sound_and_silence_before_it_counts(utterances, moonshine):
    audio = utterances[0].audio
    late = Audio(np.concatenate([np.zeros(audio.rate * 2, np.float32), audio.samples]), audio.rate)
    (segment,) = moonshine.transcribe(late).segments
    assert 1.5 < segment.start < segment.end <= late.seconds
    assert words(segment.text) == words(SAID[0])


@pytest.mark.parametrize("level", [0.0, 1e-4])
def test_silence_says_nothing(moonshine, level):
    noise = np.random.default_rng(0).normal(0, 1, 16000 * 2).astype(np.float32) * level
    assert moonshine.transcribe(Audio(noise, 16000)).text == ""
    assert moonshine.transcribe(Audio(noise[:0], 16000)).text == ""


def test_speech_is_told_from_silence_and_from_noise(utterances, silero):
    audio = utterances[0].audio
    from serving.infrastructure.speech.resampling import resampled

    speech = resampled(audio, silero.rate).samples
    noise = np.random.default_rng(0).normal(0, 0.05, len(speech)).astype(np.float32)
    assert max(silero.stream().push(speech)) > 0.9
    assert max(silero.stream().push(noise)) < 0.5 and max(silero.stream().push(noise * 0)) < 0.5
    whole, pieces = silero.stream(), silero.stream()
    told = whole.push(speech)
    assert sum((pieces.push(speech[at : at + 999]) for at in range(0, len(speech), 999)), []) == pytest.approx(told, abs=1e-5)
    whole.reset()
    assert whole.push(speech) == pytest.approx(told, abs=1e-5)


def test_sentences_are_spoken_one_by_one_at_the_speed_that_is_asked_for(kokoro):
    chunks = kokoro.speak("It is. It is not.", speed=2.0)
    assert [chunk.text for chunk in chunks] == ["It is.", "It is not."]
    slow, fast = (next(kokoro.speak("Good morning.", speed=speed)).audio.seconds for speed in (1.0, 2.0))
    assert 1.2 < slow / fast < 2.5
    assert list(kokoro.speak("")) == list(kokoro.speak(" ... \n")) == []


@pytest.mark.parametrize("wrong", [{"voice": "nobody"}, {"speed": 0.1}, {"speed": 4.5}])
def test_an_unknown_voice_and_an_impossible_speed_are_refused_before_anything_is_said(kokoro, wrong):
    with pytest.raises(InvalidRequest) as error:
        kokoro.speak("Hello.", **wrong)
    assert error.value.param in wrong
