import pytest

from serving.infrastructure.speech.config import load_activity, load_hearing, load_speaking
from tests.serving.speech.voices import voice_config


@pytest.fixture(scope="session")
def kokoro():
    return load_speaking(voice_config())


@pytest.fixture(scope="session")
def moonshine():
    pytest.importorskip("moonshine_voice")
    return load_hearing(voice_config())


@pytest.fixture(scope="session")
def silero():
    return load_activity(voice_config())
