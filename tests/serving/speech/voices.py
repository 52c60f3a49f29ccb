"""The files of the default voices, fetched once for all tests, or the reason why there are none."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from lifecycle.errors import LifecycleError
from serving.infrastructure.speech.config import SpeechConfig
from serving.infrastructure.speech.files import missing, set_up

BUILD = Path(__file__).parents[3] / "build" / "voice"


@cache
def _fetched() -> str:
    """Why there are no files; empty when there are."""
    try:
        if missing(BUILD):
            set_up(BUILD, lambda line: None)
        return ""
    except LifecycleError as error:
        return str(error)


def voice_config(**changes) -> SpeechConfig:
    """The default voices. Skips the test where the registries cannot be reached."""
    if reason := _fetched():
        pytest.skip(reason)
    return SpeechConfig(**{"voice_dir": str(BUILD), "speech_threads": 2, **changes})
