"""The light engines, where they are installed: flite and espeak-ng speak, PocketSphinx hears."""

import shutil

import numpy as np
import pytest

from serving.application.speech import Audio
from serving.domain.errors import InvalidRequest, SpeechMissing
from serving.infrastructure.speech.config import SpeechConfig, load_hearing, load_speaking
from serving.infrastructure.speech.programs import PROGRAMS


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_speaks_sentence_by_sentence_at_any_speed(name):
    if shutil.which(name) is None:
        pytest.skip(PROGRAMS[name].install)
    engine = load_speaking(SpeechConfig(text_to_speech=name))
    chunks = list(engine.speak("It is red. ... It is not blue."))
    assert [chunk.text for chunk in chunks] == ["It is red.", "It is not blue."]
    for chunk in chunks:
        assert chunk.audio.rate == engine.rate and 0.3 < chunk.audio.seconds < 4 and np.abs(chunk.audio.samples).max() > 0.05
    slow, fast = (next(engine.speak("It is not blue at all.", speed=speed)).audio.seconds for speed in (0.5, 2.0))
    assert slow > 2 * fast
    assert list(engine.speak("-v; rm -rf /"))[0].audio.seconds > 0.3, "a text is never an option of the program"
    with pytest.raises(InvalidRequest):
        engine.speak("Hi", voice="nobody")


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_is_not_there_is_named_with_what_to_type(monkeypatch, name):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SpeechMissing, match=f"{name} is not installed.*apt-get install {name}"):
        load_speaking(SpeechConfig(text_to_speech=name))


def test_pocketsphinx_hears_words_with_their_times():
    pytest.importorskip("pocketsphinx")
    if shutil.which("flite") is None:
        pytest.skip("nobody speaks to it: apt-get install flite")
    chunk = next(load_speaking(SpeechConfig(text_to_speech="flite")).speak("The door is open."))
    engine = load_hearing(SpeechConfig(speech_to_text="pocketsphinx"))
    (segment,) = engine.transcribe(chunk.audio).segments
    assert "door" in segment.text and len(segment.words) >= 3
    times = [time for word in segment.words for time in (word.start, word.end)]
    assert times == sorted(times) and times[-1] <= chunk.audio.seconds + 0.1
    assert engine.transcribe(Audio(np.zeros(16000, np.float32), 16000)).text == ""
