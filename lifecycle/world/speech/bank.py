"""The recordings that are committed in `data/speech`: one Opus file a voice, in which every phrase has its place."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lifecycle.config import choose
from lifecycle.errors import LifecycleError
from lifecycle.registry import DataRef

DIRECTORY = Path(__file__).resolve().parents[3] / "data" / "speech"
PHONEMES, INDEX, HASHES = "phonemes.json", "index.json", "sha256.json"
RATE = 16_000
"""Samples a second."""
ANSWERER = "af_heart"
"""The voice in which everything is answered."""
FLITE = ("rms", "slt", "awb", "kal16")
VOICES = (ANSWERER, *FLITE)
"""Those that training hears."""
UNHEARD = "am_michael"
"""One that it never hears."""
SPEAKERS = (*VOICES, UNHEARD)


@functools.cache
def recordings(voice: str) -> dict[str, np.ndarray]:
    """Every phrase that a voice says: text as it is written to float32 samples at RATE, all about equally loud.

    Raises LifecycleError for an unknown voice, for a file that is missing or not what was committed, and without PyAV.
    """
    choose("voice", voice, dict.fromkeys(SPEAKERS))
    expected = json.loads(_bytes(HASHES))
    for name in (INDEX, f"{voice}.opus"):
        if hashlib.sha256(_bytes(name)).hexdigest() != expected[name]:
            raise LifecycleError(f"{DIRECTORY / name} is not what was committed: restore it with git checkout data/speech")
    sound = _decode(DIRECTORY / f"{voice}.opus")
    return {text: sound[start:end] for text, (start, end) in json.loads(_bytes(INDEX))[voice].items()}


def recorded() -> DataRef:
    """All recordings, as a manifest names them."""
    return DataRef("world/speech", hashlib.sha256(_bytes(HASHES)).hexdigest(), {"voices": list(SPEAKERS)})


def _decode(path: Path) -> np.ndarray:
    try:
        import av
    except ImportError:
        raise LifecycleError("speech is decoded by PyAV: pip install -e '.[voice]'") from None
    with av.open(str(path)) as file:
        return resampled(file.decode(audio=0))


def resampled(frames: Iterable[Any]) -> np.ndarray:
    """PyAV's audio frames as float32 samples at RATE."""
    from av import AudioResampler

    resampler = AudioResampler("flt", "mono", RATE)
    found = [part for frame in frames for part in resampler.resample(frame)]
    return np.concatenate([part.to_ndarray()[0] for part in [*found, *resampler.resample(None)]])


def _bytes(name: str) -> bytes:
    path = DIRECTORY / name
    if not path.is_file():
        raise LifecycleError(f"{path} is missing: restore it with git checkout data/speech")
    return path.read_bytes()
