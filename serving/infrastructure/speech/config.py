"""Who hears and who speaks, as configuration says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lifecycle.errors import LifecycleError
from serving.application.speech import SpeechEngines, SpeechToText, TextToSpeech, VoiceActivity

ACTIVITY = ("silero", "energy")
MOST_THREADS = 64


@dataclass(frozen=True)
class SpeechConfig:
    """Adapters for hearing and speaking; each is loaded when it is first asked for."""

    speech_to_text: str = "moonshine"
    """Who hears: "moonshine", "pocketsphinx", or a model of transformers (Whisper, Moonshine), its directory or hub name."""
    text_to_speech: str = "kokoro"
    """Who speaks: "kokoro", "flite", "espeak-ng", or a model of transformers (VITS, MMS, SpeechT5), its directory or hub name."""
    voice_activity: str = "silero"
    """Who tells speech from noise: "silero", or "energy", which listens to loudness alone."""
    voice_dir: str = ""
    """Where lifecycle voice setup put its files; empty: voice in $LIFECYCLE_CACHE, else in data/cache."""
    speakers_dir: str = ""
    """Whom SpeechT5 can speak like: a directory of x-vectors, NAME.npy; empty: speakers in the model's directory."""
    speech_threads: int = 0
    """Threads for speaking; 0: one for each core."""

    def __post_init__(self) -> None:
        if self.voice_activity not in ACTIVITY:
            raise LifecycleError(f'unknown voice_activity "{self.voice_activity}": choose one of {", ".join(ACTIVITY)}')
        if not 0 <= self.speech_threads <= MOST_THREADS:
            raise LifecycleError(f"speech_threads must be between 0 and {MOST_THREADS}, not {self.speech_threads}")


def speech_engines(config: SpeechConfig) -> SpeechEngines:
    """The adapters that are chosen; nothing is imported or loaded yet."""
    return SpeechEngines(lambda: load_hearing(config), lambda: load_speaking(config), lambda: load_activity(config))


def load_hearing(config: SpeechConfig) -> SpeechToText:
    """Raises `SpeechMissing`."""
    if config.speech_to_text == "moonshine":
        from serving.infrastructure.speech.moonshine import Moonshine

        return Moonshine()
    if config.speech_to_text == "pocketsphinx":
        from serving.infrastructure.speech.pocketsphinx import PocketSphinx

        return PocketSphinx()
    from serving.infrastructure.speech.transformers_listeners import SpeechSeq2Seq

    return SpeechSeq2Seq(config.speech_to_text)


def load_speaking(config: SpeechConfig) -> TextToSpeech:
    """Raises `SpeechMissing`."""
    if config.text_to_speech == "kokoro":
        from serving.infrastructure.speech.kokoro import Kokoro

        return Kokoro(_directory(config), config.speech_threads)
    from serving.infrastructure.speech.programs import PROGRAMS, Spoken

    if config.text_to_speech in PROGRAMS:
        return Spoken(PROGRAMS[config.text_to_speech])
    from serving.infrastructure.speech.transformers_speakers import load_speaker

    return load_speaker(config.text_to_speech, config.speakers_dir)


def load_activity(config: SpeechConfig) -> VoiceActivity:
    """Raises `SpeechMissing`."""
    if config.voice_activity == "energy":
        from serving.infrastructure.speech.energy import Energy

        return Energy()
    from serving.infrastructure.speech.silero import Silero

    return Silero(_directory(config))


def _directory(config: SpeechConfig) -> Path | None:
    return Path(config.voice_dir) if config.voice_dir else None
