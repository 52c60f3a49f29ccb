"""A server that hears and speaks with the default voices, in front of an engine that says what it is told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving.infrastructure.config import ServingConfig
from serving.infrastructure.speech.voice import build_voice
from serving.presentation.app import create_app
from serving.presentation.local import LocalServer, run_in_thread
from tests.serving.speech.voices import voice_config

sys.path.insert(0, str(Path(__file__).parents[1] / "http"))
from scripted_engine import Catalog, scripted_model  # noqa: E402


@contextmanager
def speaking_server(script) -> Iterator[LocalServer]:
    """Skips the test where there are no voices."""
    files = voice_config()
    pytest.importorskip("moonshine_voice")
    voice = build_voice(ServingConfig(voice_dir=files.voice_dir, speech_threads=2))
    with run_in_thread(create_app(Catalog(scripted_model(script)), voice=voice)) as server:
        yield server
