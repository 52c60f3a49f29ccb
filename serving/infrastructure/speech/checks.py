"""What every adapter refuses alike."""

from __future__ import annotations

import importlib.util

from serving.application.speech import SPEED, TextToSpeech
from serving.domain.errors import InvalidRequest, SpeechMissing

EXTRA = "pip install -c constraints.txt -e '.[voice]'"


def check_speech(engine: TextToSpeech, voice: str | None, speed: float) -> str:
    """The voice that is meant. Raises `InvalidRequest`."""
    voice = engine.voices[0] if voice is None else voice
    if voice not in engine.voices:
        raise InvalidRequest(f'"voice" must be one of {", ".join(engine.voices)}, not "{voice[:40]}"', param="voice")
    low, high = SPEED
    if not low <= speed <= high:
        raise InvalidRequest(f'"speed" must be between {low:g} and {high:g}', param="speed")
    return voice


def require(*modules: str, install: str = EXTRA) -> None:
    """Raises `SpeechMissing` where one of these is not installed."""
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    if absent:
        raise SpeechMissing(f"{absent[0]} is not installed where the server runs: {install}")
