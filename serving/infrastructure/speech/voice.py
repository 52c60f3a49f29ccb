"""Everything that a server needs to hear and to speak."""

from __future__ import annotations

from serving.application.voice import Voice
from serving.infrastructure.config import ServingConfig
from serving.infrastructure.media.opener import SoundOpener
from serving.infrastructure.speech.config import speech_engines
from serving.infrastructure.speech.encoding import write_sound
from serving.infrastructure.speech.silence import pieces
from serving.infrastructure.wire_formats import wire_formats


def build_voice(config: ServingConfig) -> Voice:
    """As configuration says. No model is loaded before somebody asks for it."""
    return Voice(speech_engines(config), SoundOpener(config), write_sound, pieces, wire_formats())
