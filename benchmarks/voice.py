"""Speaking with a model: what is understood, how soon it answers, how fast it falls silent, and how many can talk at once.

    lifecycle voice setup
    python benchmarks/voice.py                                   # production, ten minutes
    python benchmarks/voice.py --model smollm2 --answer-tokens 48              # a model that is fond of talking
    python benchmarks/voice.py --speaker flite --turn-detection semantic_vad   # a row more, the others stay

A hundred tasks of the world are spoken by three voices, with white noise 20 dB below them. The word error rate is of what
the server's ears make of all of them, numbers and signs as words. For the first audio some are spoken into /v1/realtime of
`lifecycle serve` at the speed of speech: it is the time from the end of the last word (of the noise-free sound) to the first
sound of the answer, the silence after which a turn is over included; answers in which nothing is said are counted apart. Barge-in is from the first sound of somebody who
interrupts to the last sound that still came. A conversation is without gaps when no sound of its answers came later than
the one before it was over. The round trip: the task is spoken, the answer is spoken and written down again; how many are
right, of those that the model gets right in text chat. Greedy. What `native.py` found is repeated below. Prints a table and one JSON line, writes
benchmarks/voice.{json,md}.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from live_client import PATIENCE, RATE, Answer, Caller
from results import BUILD, HERE, markdown, publish, show_in_readme
from startup import wait_until_ready

from lifecycle.evaluation.sets import load
from lifecycle.world.verifiers import verify
from serving.application.speech import Audio, SpeechToText, TextToSpeech
from serving.bench.word_errors import word_error_rate
from serving.domain.written import as_written
from serving.infrastructure.speech.config import SpeechConfig, speech_engines

TITLE = "Speaking with a model"
SKILLS = ("sums", "ordering", "refusal", "constrained_writing")
VOICES = ("af_heart", "am_michael", "bf_emma")
NOISE_DB = 20.0
SILENCE = 1.2  # seconds after what is said, before the next thing is
STORY = "Please tell me a short story about Milo and Igor."
LIVE = 4
ROUND_TRIP_TOKENS = 256  # no right answer is longer
NATIVE = Path(__file__).with_name("native.json")
"""What `native.py` found of a model that hears and speaks itself."""
LIVE_IN_README = {
    "first_audio_ms_p50": "first sound (ms)",
    "first_audio_ms_p95": "p95 (ms)",
    "barge_in_ms": "silent after (ms)",
    "sessions_without_gap": f"of {LIVE} at once without gaps",
    "wer": "words misheard",
    "round_trip": "right, of what is right in text",
}
NATIVE_IN_README = {
    "heard": "numbers and names understood",
    "answered": "right answers, as others hear them",
    "first_audio_ms_p50": "first sound (ms)",
    "first_audio_ms_p95": "p95 (ms)",
}
NATIVE_COLUMNS = ("native_heard", "native_spoken", "native_first_audio_ms")
SIZES = {"answer_tokens": "most tokens", "turns": "timed", "interruptions": "interrupted", "live_turns": "live turns"}
COLUMNS = ("wer", "first_audio_ms_p50", "first_audio_ms_p95", "barge_in_ms", "sessions_without_gap", "round_trip")


@dataclass(frozen=True, slots=True)
class Utterance:
    """A task, spoken: `samples` float32 [n] at 24 kHz with noise; the last word ends at `end` seconds."""

    task: dict
    text: str
    samples: np.ndarray
    end: float


def draw_utterances(speaker: TextToSpeech, count: int) -> list[Utterance]:
    """Tasks of all skills in turn, voices in turn; recordings are kept in build/benchmarks."""
    tasks = [task for group in zip(*(load(skill, count) for skill in SKILLS), strict=True) for task in group][:count]
    file = BUILD / f"voice-{speaker.name}-{count}.npz"
    if not file.exists():
        rng = np.random.default_rng(0)
        spoken = [utter(speaker, task, VOICES[at % len(VOICES)], rng) for at, task in enumerate(tasks)]
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, ends=[one.end for one in spoken], **{str(at): one.samples for at, one in enumerate(spoken)})
    with np.load(file) as kept:
        return [Utterance(task, text_of(task), kept[str(at)], float(kept["ends"][at])) for at, task in enumerate(tasks)]


def text_of(task: dict) -> str:
    return task["messages"][-1]["content"]


def utter(speaker: TextToSpeech, task: dict, voice: str, rng: np.random.Generator) -> Utterance:
    """One of them."""
    text = text_of(task)
    clean = np.concatenate([chunk.audio.samples for chunk in speaker.speak(text, voice)])
    loud = np.flatnonzero(np.abs(clean) > 0.02)
    loudness = float(np.sqrt(np.mean(clean[loud[0] : loud[-1]] ** 2)))
    noise = rng.normal(0, loudness * 10 ** (-NOISE_DB / 20), len(clean)).astype(np.float32)
    return Utterance(task, text, clean + noise, (loud[-1] + 1) / RATE)


def room(seconds: float, like: Utterance, rng: np.random.Generator) -> np.ndarray:
    """The same noise, and nobody speaks."""
    quiet = like.samples[: int(0.02 * RATE)]
    return rng.normal(0, float(np.std(quiet)), int(seconds * RATE)).astype(np.float32)


def session(by: str, tokens: int | None) -> dict:
    """One whose turns are found out that way, and whose answers end after so many tokens."""
    return {"audio": {"input": {"turn_detection": {"type": by}}}, "max_output_tokens": tokens or "inf"}


def first_audio(url: str, model: str, settings: dict, utterances: list[Utterance]) -> list[dict[str, float]]:
    """Milliseconds from the end of speech to the transcript, the first word and the first sound of the answer."""
    found, rng = [], np.random.default_rng(1)
    with Caller(url, model, settings) as caller:
        for one in utterances:
            since = len(caller.events)
            began = caller.speak(np.concatenate([room(0.4, one, rng), one.samples, room(SILENCE, one, rng)]))
            ended = began + 0.4 + one.end
            transcribed, _ = caller.wait("conversation.item.input_audio_transcription.completed", since)
            answer = caller.said(caller.wait("response.done", since)[1])
            moments = (transcribed, answer.first_text, answer.first_sound)
            if answer.first_sound is not None:
                found.append(dict(zip(("transcript", "first_token", "first_audio"), (float(1000 * (at - ended)) for at in moments), strict=True)))
            time.sleep(max(0.0, answer.played_until - time.monotonic()))  # or the next turn would be an interruption
    return found


def barge_in(url: str, model: str, utterances: list[Utterance], story: np.ndarray) -> list[float]:
    """Milliseconds from the first sound of an interruption to the last sound of the answer that it ended."""
    found, rng = [], np.random.default_rng(2)
    for one in utterances:
        with Caller(url, model, {"max_output_tokens": 200}) as caller:
            caller.speak(np.concatenate([story, room(SILENCE, one, rng)]))
            caller.wait("response.output_audio.delta")
            loud = int(np.flatnonzero(np.abs(one.samples) > 0.1)[0])
            began = caller.speak(one.samples[loud:])
            answer = next(iter(caller.answers.values()))
            _, event = caller.wait("input_audio_buffer.speech_started", 1 + index_of(caller, "response.created"))
            if (end := answer.ended) is None or end > began:
                late = answer.last_sound if answer.last_sound > began else began
                found.append(1000 * (max(late, moment_of(caller, event)) - began))
    return found


def index_of(caller: Caller, kind: str) -> int:
    return next(at for at, (_, event) in enumerate(caller.events) if event["type"] == kind)


def moment_of(caller: Caller, event: dict) -> float:
    return next(moment for moment, other in caller.events if other is event)


def talk_at_once(url: str, model: str, settings: dict, utterances: list[Utterance], turns: int) -> list[int]:
    """The gaps of `LIVE` conversations."""
    gaps = [0] * LIVE

    def converse(number: int) -> None:
        rng = np.random.default_rng(number)
        with Caller(url, model, settings) as caller:
            for one in utterances[number::LIVE][:turns]:
                since = len(caller.events)
                caller.speak(np.concatenate([room(0.4, one, rng), one.samples, room(SILENCE, one, rng)]))
                answer = caller.said(caller.wait("response.done", since)[1])
                gaps[number] += answer.gaps
                time.sleep(max(0.0, answer.played_until - time.monotonic()))

    threads = [threading.Thread(target=converse, args=(number,)) for number in range(LIVE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return gaps


def round_trip(url: str, model: str, listener: SpeechToText, utterances: list[Utterance]) -> list[dict]:
    """What became of each task that text chat gets right: said, heard, answered, heard of the answer, and whether that is right."""
    asked = [one for one in utterances if one.task["check"]["type"] in ("number", "text")]
    found = []
    for one in asked:
        if verify(one.task["check"], chat(url, model, one.text)):
            trip = {"said": one.text, **aloud(url, model, listener, one)}
            found.append({**trip, "right": says(one.task["check"], trip["answer_heard"])})
    return found


def says(check: dict, heard: str) -> bool:
    """Whether what was heard is the right answer: the same words and digits, whatever the ears write between them."""
    if check["type"] == "number":
        return verify(check, as_written(heard))
    return letters(as_written(heard)) == letters(check["text"])


def letters(text: str) -> list[str]:
    """Words and single digits: "11, 34." and "11:34" sound the same."""
    return re.findall(r"[a-z']+|\d", text.lower())


def chat(url: str, model: str, text: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": ROUND_TRIP_TOKENS}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=PATIENCE).json()
    return answer["choices"][0]["message"]["content"]


def aloud(url: str, model: str, listener: SpeechToText, one: Utterance) -> dict[str, str]:
    """What is heard, answered, and heard of the answer to what is said."""
    with Caller(url, model, {"audio": {"input": {"turn_detection": None}}, "max_output_tokens": ROUND_TRIP_TOKENS}) as caller:
        caller.speak(one.samples, paced=False)
        caller.tell("input_audio_buffer.commit")
        caller.tell("response.create")
        answer: Answer = caller.said(caller.wait("response.done")[1])
        heard = caller.wait("conversation.item.input_audio_transcription.completed")[1]["transcript"]
    return {"heard": heard, "status": answer.status, "answer": answer.text, "answer_heard": listener.transcribe(Audio(answer.samples, RATE)).text}


def figures(url: str, model: str, by: str, listener: SpeechToText, utterances: list[Utterance], story: np.ndarray, sizes: argparse.Namespace) -> dict:
    """All that is measured with one model."""
    settings = session(by, sizes.answer_tokens)
    moments = progress("first audio", first_audio(url, model, settings, utterances[: sizes.turns]))
    sounds = sorted(one["first_audio"] for one in moments)
    silenced = progress("interruptions", barge_in(url, model, utterances[: sizes.interruptions], story))
    gaps = progress("gaps", talk_at_once(url, model, settings, utterances, sizes.live_turns))
    trips = progress("round trips", round_trip(url, model, listener, utterances[: sizes.round_trips]))
    return {
        "transcript_ms_p50": statistics.median(one["transcript"] for one in moments),
        "first_token_ms_p50": statistics.median(one["first_token"] for one in moments),
        "first_audio_ms_p50": statistics.median(sounds),
        "first_audio_ms_p95": float(np.percentile(sounds, 95)),
        "turns_without_sound": sizes.turns - len(moments),
        "barge_in_ms": statistics.median(silenced) if silenced else None,
        "sessions_without_gap": sum(not count for count in gaps),
        "round_trip": sum(trip["right"] for trip in trips) / len(trips) if trips else None,
        "right_in_text": len(trips),
        "lost": [trip for trip in trips if not trip["right"]],
    }


def progress(what: str, found: list) -> list:
    """Show what is measured so far."""
    print(what, *found, sep="\n  ", file=sys.stderr, flush=True)
    return found


def serve(ref: str, port: int, speaker: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "lifecycle.cli", "serve", ref, "--port", str(port), "--kv-memory", "128"]
    command += ["--set", f"text_to_speech={speaker}"]
    server = subprocess.Popen(
        command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    wait_until_ready(server, port, time.perf_counter())
    return server


def with_earlier(rows: list[dict], file: Path) -> list[dict]:
    """These, and before them those of other settings that were measured earlier."""
    def setting(row: dict) -> tuple:
        return row["model"], row["speaker"], row["turn_detection"]

    earlier = json.loads(file.read_text())["models"] if file.exists() else []
    new = {setting(row): row for row in rows}
    kept = [new.pop(setting(row), row) for row in earlier]
    return kept + list(new.values())


def in_readme(rows: list[dict], native: dict) -> str:
    """What the README shows: live conversations, and those who hear and speak themselves."""
    live = [{"model": row["model"], "voice": row["speaker"], **{name: "–" if row[key] is None else row[key] for key, name in LIVE_IN_README.items()}} for row in rows]
    tables = [markdown(live)]
    if native:
        by = "heard and spoken"
        tables.append(markdown([{"model": row["model"], by: row[by], **{name: row[key] for key, name in NATIVE_IN_README.items()}} for row in native["models"]]))
    return "\n".join(tables) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", dest="models", action="append", help="Registry version; may be repeated.  [default: production]")
    parser.add_argument("--speaker", dest="speakers", action="append", help="Of the answers; may be repeated.  [default: kokoro]")
    parser.add_argument("--turn-detection", dest="detections", action="append", help="May be repeated.  [default: server_vad]")
    parser.add_argument("--utterances", type=int, default=100, help="Whose words are counted.")
    parser.add_argument("--turns", type=int, default=20, help="Spoken in real time, for the first audio.")
    parser.add_argument("--answer-tokens", type=int, help="Most of an answer in real time.  [default: the model's own end]")
    parser.add_argument("--interruptions", type=int, default=6)
    parser.add_argument("--live-turns", type=int, default=3, help="Of each of the conversations at once.")
    parser.add_argument("--round-trips", type=int, default=60, help="Utterances that are answered and heard.")
    parser.add_argument("--port", type=int, default=8771)
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write the figures there instead.")
    arguments = parser.parse_args()
    engines = speech_engines(SpeechConfig())
    speaker, listener = engines.to_speech(), engines.to_text()
    utterances = draw_utterances(speaker, arguments.utterances)
    story = np.concatenate([chunk.audio.samples for chunk in speaker.speak(STORY)])
    heard = [listener.transcribe(Audio(one.samples, RATE)).text for one in utterances]
    wer = word_error_rate([one.text for one in utterances], heard)
    progress("word error rate", [wer])
    rows = []
    settings = itertools.product(arguments.models or ["production"], arguments.speakers or ["kokoro"], arguments.detections or ["server_vad"])
    for ref, speaks, by in settings:
        server = serve(ref, arguments.port, speaks)
        try:
            url = f"http://127.0.0.1:{arguments.port}"
            found = figures(url, ref, by, listener, utterances, story, arguments)
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=PATIENCE)
        sizes = {name: getattr(arguments, name) for name in SIZES}
        rows.append({"model": ref, "speaker": speaks, "turn_detection": by, **sizes, "load": os.getloadavg()[1], "wer": wer, **found})
    report(with_earlier(rows, arguments.json or HERE / "voice.json"), len(utterances), speaker.name, listener.name, arguments.json)


def report(rows: list[dict], utterances: int, spoken_by: str, heard_by: str, file: Path | None) -> None:
    """Write the tables, here and in the README, and print the line of figures."""
    table = markdown([{SIZES.get(key, key): "–" if value is None else value for key, value in row.items() if key != "lost"} for row in rows])
    text = f"""{table}
{utterances} utterances, spoken by {spoken_by} in {len(VOICES)} voices with noise at {NOISE_DB:.0f} dB and heard by {heard_by}; who speaks the answers
and finds out when a turn is over is in the row, and so are the most tokens of an answer, how many turns in real time, interruptions and turns of
each of the {LIVE} conversations at once there were, and the five-minute load average at the end ({len(os.sched_getaffinity(0))} cores). Milliseconds.
"""
    first = {"load_average": rows[0]["load"], "cores": len(os.sched_getaffinity(0)), **{name: rows[0][name] for name in COLUMNS}}
    native = json.loads(NATIVE.read_text()) if NATIVE.is_file() else {}
    if native:
        text += f"\n## Natively, and by others\n\n{markdown(native['models'])}\nMeasured on {native['date']} by `benchmarks/native.py`.\n"
    publish("voice", {**first, **{name: native.get(name) for name in NATIVE_COLUMNS}, "models": rows}, TITLE, text, file)
    if not file:
        show_in_readme("voice", "voice", in_readme(rows, native))


if __name__ == "__main__":
    main()
