"""What the use cases need of hearing and speaking, as protocols, and the plain data that passes between them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from serving.application.precedence import Precedence

SPEED = (0.25, 4.0)
"""Slowest and fastest speech, times the voice's own pace."""


@dataclass(frozen=True, slots=True)
class Audio:
    """Sound: `samples` are float32 [n] between -1 and 1, one channel, `rate` of them a second."""

    samples: Any = field(repr=False, compare=False)
    rate: int

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / self.rate


CutSound = Callable[[Audio], Iterator[tuple[float, Audio]]]
"""A long sound to (where it begins in seconds, a short one), cut in pauses."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a transcript; times in seconds from the beginning of the sound."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech between two pauses; times in seconds. `words` are empty where nobody knows their times."""

    text: str
    start: float
    end: float
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said; `text` is "" when nobody spoke."""

    text: str
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True)
class SpeechChunk:
    """One sentence, or a part of one: its text and how it sounds."""

    text: str
    audio: Audio


class SpeechToText(Protocol):
    """Hears. Safe from any thread; several at once may have to wait for each other."""

    name: str
    languages: tuple[str, ...]
    """As in ISO 639-1; empty: any."""

    def transcribe(self, audio: Audio, language: str | None = None) -> Transcript:
        """Sound at any rate, of at most what fits in memory. Silence and noise give an empty text, never an error.

        `language`: which of `languages` is spoken, if that is known.
        """


class TextToSpeech(Protocol):
    """Speaks. Safe from any thread; several at once may have to wait for each other."""

    name: str
    rate: int
    """Samples a second of all that it says."""
    voices: tuple[str, ...]
    """The first one speaks when nobody chooses."""

    def speak(self, text: str, voice: str | None = None, speed: float = 1.0) -> Iterator[SpeechChunk]:
        """Sentence by sentence, each computed when it is asked for; nothing for a text without a word.

        Raises `InvalidRequest` before the first chunk for an unknown voice, and for a speed out of `SPEED`.
        """


class VoiceStream(Protocol):
    """Listens to one microphone. For one thread."""

    def push(self, samples: Any) -> list[float]:
        """Further samples, any number, at the rate of its `VoiceActivity`: the probability of speech in each full window.

        What is left over waits for the next call.
        """

    def reset(self) -> None:
        """Forget what was heard."""


class VoiceActivity(Protocol):
    """Tells speech from everything else. Safe from any thread."""

    name: str
    rate: int
    window: int
    """Samples that one probability is of."""

    def stream(self) -> VoiceStream:
        """For a new microphone."""


class SpokenTokens(Protocol):
    """Reads one answer aloud while its tokens still come. For one thread."""

    def push(self, tokens: Sequence[int]) -> Audio:
        """Further tokens of sound to what is known of it by then, which may be nothing."""

    def finish(self) -> Audio:
        """What is left at the end."""


class NativeSpeech(Protocol):
    """How a model that hears and speaks itself writes sound down. Safe from any thread."""

    rate: int
    """Samples a second of what it says."""
    begin: int
    """The token before those of an answer's sound."""
    tokens: range
    """Those that are sound."""

    def write(self, audio: Audio) -> str:
        """Sound at any rate as text that the model's tokenizer reads as sound; "" for silence.

        Raises `ContextLengthExceeded` for more than the model can ever hear.
        """

    def read(self) -> SpokenTokens:
        """For a new answer."""


class SpeechEngines:
    """Who hears and speaks for this server; each is loaded when it is first asked for, and kept.

    Loading raises `SpeechMissing` where what it needs is not installed or not fetched. `speaking` says whose turn it is to
    speak in live conversations, by the moment (monotonic) at which one falls silent otherwise.
    """

    def __init__(
        self,
        to_text: Callable[[], SpeechToText],
        to_speech: Callable[[], TextToSpeech],
        activity: Callable[[], VoiceActivity],
    ) -> None:
        self._load = {"to_text": to_text, "to_speech": to_speech, "activity": activity}
        self._loaded: dict[str, Any] = {}
        self._lock = threading.Lock()
        self.speaking = Precedence()

    def to_text(self) -> SpeechToText:
        """Raises `SpeechMissing`."""
        return self._get("to_text")

    def to_speech(self) -> TextToSpeech:
        """Raises `SpeechMissing`."""
        return self._get("to_speech")

    def activity(self) -> VoiceActivity:
        """Raises `SpeechMissing`."""
        return self._get("activity")

    def _get(self, which: str) -> Any:
        with self._lock:
            if which not in self._loaded:
                self._loaded[which] = self._load[which]()
            return self._loaded[which]
