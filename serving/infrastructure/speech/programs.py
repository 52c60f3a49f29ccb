"""Speech by a program of the system: flite, or espeak-ng. Small, quick, and heard to be machines."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serving.application.sentences import sentences
from serving.application.speech import Audio, SpeechChunk
from serving.domain.errors import ServingError, SpeechMissing
from serving.infrastructure.speech.checks import check_speech
from serving.infrastructure.speech.resampling import resampled

LONGEST = 60.0
"""Seconds after which the program is stopped."""


@dataclass(frozen=True, slots=True)
class Program:
    """How to run one: `command(program, voice, speed, text file, WAV file to write)`; pipes are beyond flite."""

    name: str
    rate: int
    voices: tuple[str, ...]
    command: Callable[[str, str, float, str, str], list[str]]
    install: str


FLITE = Program(
    "flite", 16000, ("rms", "slt", "awb", "kal16"),
    lambda program, voice, speed, text, wav: [
        program, "-voice", voice, "--setf", f"duration_stretch={1 / speed:.4f}", "-f", text, "-o", wav
    ],
    "apt-get install flite",
)
ESPEAK = Program(
    "espeak-ng", 22050, ("en-us", "en-gb", "en-us+f3", "en-gb+f3", "en-us+m3"),
    lambda program, voice, speed, text, wav: [program, "-v", voice, "-s", str(round(175 * speed)), "-f", text, "-w", wav],
    "apt-get install espeak-ng",
)
PROGRAMS = {program.name: program for program in (FLITE, ESPEAK)}


class Spoken:
    """A `TextToSpeech`."""

    def __init__(self, program: Program) -> None:
        self._path = shutil.which(program.name)
        if self._path is None:
            raise SpeechMissing(f"{program.name} is not installed where the server runs: {program.install}")
        self._program = program
        self.name, self.rate, self.voices = program.name, program.rate, program.voices

    def speak(self, text: str, voice: str | None = None, speed: float = 1.0) -> Iterator[SpeechChunk]:
        """As `TextToSpeech`."""
        voice = check_speech(self, voice, speed)
        return (self._chunk(one, voice, speed) for one in sentences(text) if any(map(str.isalnum, one)))

    def _chunk(self, sentence: str, voice: str, speed: float) -> SpeechChunk:
        with tempfile.TemporaryDirectory() as directory:
            text, wav = Path(directory, "text"), Path(directory, "sound.wav")
            text.write_text(sentence, encoding="utf-8")
            command = self._program.command(self._path, voice, speed, str(text), str(wav))
            try:
                done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LONGEST)
            except subprocess.TimeoutExpired:
                raise ServingError(f"{self.name} took more than {LONGEST:g} seconds for a sentence") from None
            if done.returncode or not wav.exists():
                raise ServingError(f"{self.name} failed: {done.stderr.decode(errors='replace').strip()[-200:]}")
            return SpeechChunk(sentence, resampled(_read(wav), self.rate))


def _read(path: Path) -> Audio:
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return Audio(samples.astype(np.float32) / 32768, file.getframerate())
