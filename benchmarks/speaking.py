"""What a version that hears and speaks understands, and whether others understand it.

    lifecycle speak --preset tiny
    python benchmarks/speaking.py [REF]      # by default speak@latest; writes benchmarks/speaking.{json,md}

Numbers and names are said to it in noise. Its answers aloud are transcribed by Moonshine, which knows nothing of it; what Moonshine makes
of the recordings themselves, and of what the codec leaves of them, is beside it. Needs the extra `voice`.
"""

from __future__ import annotations

import sys

import numpy as np
from results import markdown, publish

from lifecycle.evaluation.card import report
from lifecycle.evaluation.hearing import examine, spoken
from lifecycle.registry import ModelRegistry
from lifecycle.speak.data import PAUSE, heard_codes
from lifecycle.speak.speaker import Speaker
from lifecycle.world.speech import ANSWERER, RATE, recordings
from serving.application.speech import Audio
from serving.bench.word_errors import words
from serving.infrastructure.speech.moonshine import Moonshine


def main(ref: str = "speak@latest") -> None:
    version = ModelRegistry().load(ref)
    parent = ModelRegistry().load(version.manifest.parents[0].ref)
    speaker, ears = Speaker(version.path), Moonshine()
    asked = spoken([ANSWERER])
    replies = speaker.listen([sound for _, sound in asked])
    recorded = [np.pad(recordings(ANSWERER)[one.answer], PAUSE) for one, _ in asked]
    coded = [speaker.sound(codes) for codes in heard_codes(speaker.codec, recorded)]

    def understood(sounds: list[np.ndarray]) -> float:
        told = [ears.transcribe(Audio(sound, RATE)).text for sound in sounds]
        return float(np.mean([words(text) == words(one.answer) for text, (one, _) in zip(told, asked, strict=True)]))

    heard = [{"skill": skill, "right": f"{np.mean(right):.0%}", "tasks": len(right)} for skill, right, _ in examine(version.path)]
    aloud = [
        {"answers, transcribed": name, "right": f"{understood(sounds):.0%}", "tasks": len(sounds)}
        for name, sounds in (
            ("the recordings", recorded),
            ("the recordings, through the codec", coded),
            ("what the model says", [speaker.sound(reply.codes) for reply in replies]),
        )
    ]
    skills = list(report([parent], limit=1).skills())
    card = report([parent, version], skills=skills)
    texts = [{"skill": skill, **{one: f"{card.of(one)[skill].value:.0%}" for one in card.versions()}} for skill in skills]
    figures = {"heard": heard, "aloud": aloud, "texts": texts, "config": version.manifest.config, "cost": version.manifest.cost}
    publish("speaking", figures, "Learning to hear and to speak", "\n\n".join(map(markdown, (heard, aloud, texts))) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
