"""A model that hears and speaks itself beside others that hear and speak for it, over the server.

    lifecycle voice setup
    lifecycle speak --preset tiny
    python benchmarks/native.py [REF]        # by default speak@latest, five minutes; writes benchmarks/native.{json,md}

REF is served, then the model that it was made from, which others hear and speak for. Both are asked the same: numbers and names in
noise of 20 dB. `heard` is what was written down right, in all voices that training knows. In the answerer's own voice they are
answered aloud, and Moonshine writes the answer down: `answered` is the right answer, `spoken` what the model wrote. The first audio is
the time from the request to the first sound that is not silence, as a stream brings it; silence before it counts. Greedy.
"""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import sys
import time
import wave
from collections.abc import Iterator

import httpx
import numpy as np
from live_client import PATIENCE
from results import markdown, publish
from voice import serve

from lifecycle.evaluation.hearing import spoken
from lifecycle.registry import ModelRegistry
from lifecycle.world.speech import ANSWERER, RATE, VOICES
from serving.application.speech import Audio
from serving.bench.word_errors import words
from serving.infrastructure.speech.encoding import PCM_RATE, pcm16, wav_header
from serving.infrastructure.speech.moonshine import Moonshine

PORT = 8773
TURNS = 20
AUDIBLE = 0.02
NATIVE_TOKENS, TEXT_TOKENS = 160, 24
"""Most of an answer: enough for four seconds of sound, and for a sentence of text."""


def wav(samples: np.ndarray) -> bytes:
    data = pcm16(samples)
    return wav_header(RATE, len(data)) + data


def request(model: str, samples: np.ndarray, form: str | None = None, **fields) -> dict:
    """A chat in which this is said; with a `form` it is answered aloud."""
    part = {"type": "input_audio", "input_audio": {"data": base64.b64encode(wav(samples)).decode(), "format": "wav"}}
    aloud = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": form}} if form else {}
    return {"model": model, "messages": [{"role": "user", "content": [part]}], "temperature": 0, **aloud, **fields}


def answered(client: httpx.Client, body: dict) -> dict:
    message = client.post("/v1/chat/completions", json=body).raise_for_status().json()["choices"][0]["message"]
    return message if message.get("audio") or message["content"] else {"audio": {"data": "", "transcript": ""}, **message}


def heard_natively(client: httpx.Client, model: str, samples: np.ndarray) -> str:
    """What the model wrote down of it, before its answer."""
    return answered(client, request(model, samples, max_tokens=24)).get("reasoning_content", "")


def heard_by_others(client: httpx.Client, model: str, samples: np.ndarray) -> str:
    files = {"file": ("said.wav", wav(samples))}
    return client.post("/v1/audio/transcriptions", data={"model": "whisper-1"}, files=files).raise_for_status().json()["text"]


def first_audio(client: httpx.Client, body: dict) -> float | None:
    """Milliseconds; None where nothing was to be heard."""
    began, before = time.monotonic(), 0
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        for delta in sounds(response):
            samples = np.frombuffer(delta, "<i2") / 32768
            if len(loud := np.flatnonzero(np.abs(samples) > AUDIBLE)):
                return 1000 * (time.monotonic() - began + (before + loud[0]) / PCM_RATE)
            before += len(samples)
    return None


def sounds(response: httpx.Response) -> Iterator[bytes]:
    for line in response.iter_lines():
        if line.startswith("data: {"):
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                if data := (choice["delta"].get("audio") or {}).get("data"):
                    yield base64.b64decode(data)


def figures(url: str, model: str, native: bool, ears: Moonshine) -> dict:
    """All that is measured with one model."""
    with httpx.Client(base_url=url, timeout=PATIENCE) as client:
        listen, most = (heard_natively, NATIVE_TOKENS) if native else (heard_by_others, TEXT_TOKENS)
        heard = [words(listen(client, model, sound)) == words(one.said) for one, sound in spoken(VOICES)]
        asked = spoken([ANSWERER]) if native else spoken([ANSWERER])[:TURNS]
        replies = [answered(client, request(model, sound, "wav", max_tokens=most))["audio"] for _, sound in asked]
        told = [words(ears.transcribe(read(reply["data"])).text) for reply in replies]
        moments = [first_audio(client, request(model, sound, "pcm16", stream=True, max_tokens=most)) for _, sound in asked[:TURNS]]
    audible = [moment for moment in moments if moment is not None]
    return {
        "heard": float(np.mean(heard)),
        "answered": float(np.mean([text == words(one.answer) for text, (one, _) in zip(told, asked, strict=True)])),
        "spoken": float(np.mean([text == words(reply["transcript"]) for text, reply in zip(told, replies, strict=True)])),
        "first_audio_ms_p50": float(np.median(audible)) if audible else None,
        "first_audio_ms_p95": float(np.percentile(audible, 95)) if audible else None,
        "silent": len(moments) - len(audible),
        "answers": len(asked),
    }


def read(data: str) -> Audio:
    raw = base64.b64decode(data)
    if not raw:
        return Audio(np.zeros(RATE, np.float32), RATE)
    with wave.open(io.BytesIO(raw)) as file:
        return Audio(np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768, file.getframerate())


def main(ref: str = "speak@latest") -> None:
    version = ModelRegistry().load(ref)
    pipeline = version.manifest.parents[0].ref
    ears, rows = Moonshine(), []
    for model, how in ((version.ref, "natively"), (pipeline, "by Moonshine and Kokoro")):
        server = serve(model, PORT)
        try:
            found = figures(f"http://127.0.0.1:{PORT}", model, model == version.ref, ears)
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=PATIENCE)
        rows.append({"model": model, "heard and spoken": how, **found})
    load, cores = os.getloadavg()[1], len(os.sched_getaffinity(0))
    text = f"""{markdown([{key: "–" if value is None else value for key, value in row.items()} for row in rows])}
{len(spoken(VOICES))} numbers and names heard, `answers` answered aloud, {TURNS} timed (milliseconds); `silent` is how many of these had no sound.
The model without ears was taught nothing about numbers and names alone: `answered` says little of it, `spoken` does.
Five-minute load average of the machine at the end: {load:.1f}, for {cores} cores that this could use.
"""
    first = {"native_heard": rows[0]["heard"], "native_spoken": rows[0]["answered"], "native_first_audio_ms": rows[0]["first_audio_ms_p50"]}
    publish("native", {**first, "load_average": load, "cores": cores, "models": rows}, "Hearing and speaking natively, and by others", text)


if __name__ == "__main__":
    main(*sys.argv[1:])
