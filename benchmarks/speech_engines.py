"""Who hears and who speaks, side by side: how well one understands the other, and what a second of sound costs.

    lifecycle voice setup
    python benchmarks/speech_engines.py

Twenty sentences of one to four clauses are spoken by each engine that is installed, in up to two voices, and written down by
each; the word error rate compares numbers and signs as words. Costs are CPU seconds of the whole process per second of sound, with
one thread; the first sentence is "Yes, it is red.", wall-clock, after everything was loaded. Prints a table and one JSON line,
writes benchmarks/speech_engines.{json,md}.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from results import markdown, publish

from serving.application.speech import Audio, SpeechToText, TextToSpeech, VoiceActivity
from serving.bench.word_errors import word_error_rate
from serving.domain.errors import SpeechMissing
from serving.infrastructure.speech.config import SpeechConfig, load_activity, load_hearing, load_speaking
from serving.infrastructure.speech.resampling import resampled

TITLE = "Who hears and who speaks"
FIRST = "Yes, it is red."
SAID = (
    "The cat is in the red box.", "Anna has three apples and buys two more.", "What is seventeen plus twenty-five?",
    "Tom put the key under the table.", "My favourite colour is blue.", "The answer is forty-two.",
    "Who gave the lamp to Maria?", "The baker walked to the river before breakfast.", "Is the green ball left of the box?",
    "There are one hundred and five stones on the hill.", "She opened the door, and nobody was there.",
    "Milo found a silver coin behind the old mill.", "How many birds are in the garden?", "I don't know, the story does not say.",
    "The train leaves at ten thirty.", "Please tell me a short story about a fox.", "Igor sold his horse for nine coins.",
    "It was raining, so they stayed inside until noon.", "Where is the yellow cup now?", "Good night, and thank you for the soup.",
)  # fmt: skip
VOICES = {"kokoro": ("af_heart", "am_michael"), "flite": ("rms", "slt"), "espeak-ng": ("en-us",)}
HEARING = ("moonshine", "pocketsphinx")
ACTIVITY = ("silero", "energy")


def installed(load: Callable[[SpeechConfig], Any], field: str, name: str, directory: str) -> Any:
    """The engine, loaded; None where it is not to be had."""
    try:
        return load(SpeechConfig(**{field: name, "voice_dir": directory, "speech_threads": 1}))
    except SpeechMissing as error:
        print(f"without {name}: {error.message}")
        return None


def speak_all(engine: TextToSpeech, voice: str) -> tuple[list[Audio], dict[str, float]]:
    """Every sentence, and what speaking costs."""
    next(engine.speak("Hello.", voice))
    began = time.monotonic()
    next(engine.speak(FIRST, voice))
    first = time.monotonic() - began
    began, used = time.monotonic(), _cpu()
    made = [Audio(np.concatenate([one.audio.samples for one in engine.speak(text, voice)]), engine.rate) for text in SAID]
    used, wall = _cpu() - used, time.monotonic() - began
    seconds = sum(one.seconds for one in made)
    return made, {"first_sentence_ms": first * 1000, "cpu_per_s": used / seconds, "wall_per_s": wall / seconds}


def hear_all(engine: SpeechToText, sounds: list[Audio]) -> dict[str, float]:
    """Word error rate and cost."""
    began = _cpu()
    heard = [engine.transcribe(sound).text for sound in sounds]
    used = _cpu() - began
    return {"wer": 100 * word_error_rate(SAID, heard), "cpu_per_s": used / sum(one.seconds for one in sounds)}


def watch(engine: VoiceActivity, sounds: list[Audio]) -> float:
    """CPU seconds per second of sound."""
    fit = [resampled(sound, engine.rate) for sound in sounds]
    began = _cpu()
    for sound in fit:
        engine.stream().push(sound.samples)
    return (_cpu() - began) / sum(one.seconds for one in sounds)


def _cpu() -> float:
    """Of this process and the programs that it has run."""
    import resource

    return sum(one.ru_utime + one.ru_stime for one in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="", help="where lifecycle voice setup put its files")
    parser.add_argument("--json", type=Path, help="where the figures go")
    asked = parser.parse_args()
    ears = {name: engine for name in HEARING if (engine := installed(load_hearing, "speech_to_text", name, asked.dir))}
    rows, last = [], []
    for name, voices in VOICES.items():
        engine = installed(load_speaking, "text_to_speech", name, asked.dir)
        for voice in voices if engine else ():
            last, cost = speak_all(engine, voice)
            heard = {ear: hear_all(ears[ear], last) for ear in ears}
            rows.append({"speaks": name, "voice": voice, **cost, **{f"wer_{ear}": one["wer"] for ear, one in heard.items()},
                         **{f"cpu_per_s_{ear}": one["cpu_per_s"] for ear, one in heard.items()}})  # fmt: skip
    activity = {
        name: watch(engine, last) for name in ACTIVITY if (engine := installed(load_activity, "voice_activity", name, asked.dir))
    }
    text = markdown(rows) + "\nVoice activity, CPU seconds per second: " + ", ".join(f"{k} {v:.4f}" for k, v in activity.items()) + ".\n"
    publish("speech_engines", {"rows": rows, "activity": activity}, TITLE, text, asked.json)


if __name__ == "__main__":
    main()
