"""How the recordings in `data/speech` were made; needed only to record anew.

`python -m lifecycle.world.speech.recording MODEL.onnx VOCABULARY.json VOICES_DIRECTORY`, with Kokoro-82M's files, onnxruntime,
and flite (Debian's package) on the PATH. `data/speech/phonemes.json` holds how Kokoro pronounces each phrase.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

from lifecycle.world.speech.bank import ANSWERER, DIRECTORY, FLITE, HASHES, INDEX, PHONEMES, RATE, SPEAKERS, resampled
from lifecycle.world.speech.phrases import exchanges

QUIET = 0.01
"""Below this part of a phrase's loudest sample is silence, where it begins and ends."""
MARGIN = 0.03
"""Seconds that are kept on both sides."""
GAP = np.zeros(RATE // 10, np.float32)
BITS_PER_SECOND = 20_000


class Kokoro:
    """Kokoro-82M (Apache-2.0), which reads phonemes and speaks at 24 kHz."""

    def __init__(self, model: Path, vocabulary: Path, voices: Path) -> None:
        import onnxruntime

        self.session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        self.ids, self.voices = json.loads(vocabulary.read_text())["vocab"], voices
        self.phonemes = json.loads((DIRECTORY / PHONEMES).read_text())

    def __call__(self, text: str, voice: str) -> np.ndarray:
        """float32 samples at RATE."""
        tokens = [self.ids[symbol] for symbol in self.phonemes[text]]
        styles = np.fromfile(self.voices / f"{voice}.bin", np.float32).reshape(-1, 1, 256)
        names = [one.name for one in self.session.get_inputs()]
        given = (np.array([[0, *tokens, 0]], np.int64), styles[len(tokens)], np.ones(1, np.float32))
        sound = self.session.run(None, dict(zip(names, given, strict=True)))[0].reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(sound, "flt", "mono")
        frame.rate = 24_000
        return resampled([frame])


def flite(text: str, voice: str) -> np.ndarray:
    """float32 samples at RATE."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", file.name], check=True)
        with wave.open(file.name) as sound:
            assert sound.getframerate() == RATE
            return np.frombuffer(sound.readframes(sound.getnframes()), np.int16).astype(np.float32) / 32768


def trimmed(sound: np.ndarray) -> np.ndarray:
    """The same from where it is first heard to where it is last heard, as loud as all others."""
    loud = np.flatnonzero(np.abs(sound) > QUIET * np.abs(sound).max())
    margin = int(MARGIN * RATE)
    kept = sound[max(0, loud[0] - margin) : loud[-1] + margin]
    return (0.08 * kept / np.sqrt(np.mean(kept**2))).clip(-1, 1)


def encode(sounds: list[np.ndarray], path: Path) -> list[tuple[int, int]]:
    """Write one Opus file of all; where each begins and ends in it, in samples."""
    places, parts, end = [], [GAP], len(GAP)
    for sound in sounds:
        places.append((end, end + len(sound)))
        parts += [sound, GAP]
        end += len(sound) + len(GAP)
    whole = (np.concatenate([*parts, GAP]) * 32767).astype(np.int16)
    with av.open(str(path), "w", format="ogg") as file:
        stream = file.add_stream("libopus", rate=RATE, layout="mono", bit_rate=BITS_PER_SECOND, options={"frame_duration": "60"})
        frame = av.AudioFrame.from_ndarray(whole[None], "s16", "mono")
        frame.rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    return places


def record(kokoro: Callable[[str, str], np.ndarray], directory: Path = DIRECTORY) -> None:
    """Write every voice's file, the index and the hashes anew."""
    said = [one.said for one in exchanges()]
    answers = list(dict.fromkeys(one.answer for one in exchanges()))
    index = {}
    for voice in SPEAKERS:
        say = flite if voice in FLITE else kokoro
        texts = [*said, *(answers if voice == ANSWERER else [])]
        places = encode([trimmed(say(text, voice)) for text in texts], directory / f"{voice}.opus")
        index[voice] = dict(zip(texts, places, strict=True))
    (directory / INDEX).write_text(json.dumps(index, ensure_ascii=False) + "\n")
    files = [PHONEMES, INDEX, *(f"{voice}.opus" for voice in SPEAKERS)]
    hashes = {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in files}
    (directory / HASHES).write_text(json.dumps(hashes, indent=1) + "\n")


if __name__ == "__main__":
    record(Kokoro(*map(Path, sys.argv[1:4])))
