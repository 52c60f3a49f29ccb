"""A real model (tiny, random), in a real registry, behind the real engine and server."""

from __future__ import annotations

import os
from pathlib import Path

import openai
import pytest

from lifecycle.registry import DataRef, ModelRegistry
from serving.infrastructure.feedback_sqlite import FILE_NAME, SqliteFeedback
from serving.presentation.app import create_app
from serving.presentation.local import run_in_thread
from serving.presentation.state import HttpConfig

CONTEXT = 16384


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """A registry with one version, `tiny/1`, aliased `production`."""
    import torch

    from lifecycle.model.checkpoint import save_checkpoint
    from lifecycle.model.decoder import Decoder
    from lifecycle.model.presets import ModelConfig
    from lifecycle.model.tokenizer import train_tokenizer

    torch.manual_seed(0)
    tokenizer = train_tokenizer(["the quick brown fox jumps over the lazy dog. 0123456789"] * 4, 320)
    config = ModelConfig(
        vocab_size=320,
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        intermediate_size=64,
        context_length=CONTEXT,
    )

    def write(directory: Path) -> None:
        save_checkpoint(Decoder(config), config, tokenizer, directory)

    registry = ModelRegistry(tmp_path_factory.mktemp("registry"))
    registry.publish("tiny", write, data=DataRef("random", "0" * 64))
    registry.set_alias("production", "tiny/1")
    return registry


@pytest.fixture(scope="session")
def catalog(registry: ModelRegistry):
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from serving.composition import ServingConfig, build_catalog

    catalog = build_catalog(["tiny/1"], ServingConfig(dtype="float32", kv_memory_mb=16), registry)
    yield catalog
    for model in catalog.all():
        model.engine.close()


@pytest.fixture(scope="session")
def server(catalog, registry):
    """With all routes that there are."""
    config = HttpConfig(tick_seconds=0.05, ping_seconds=0.1, registry=registry.root)
    feedback = SqliteFeedback(registry.root / FILE_NAME)
    with run_in_thread(create_app(catalog, config, feedback=feedback)) as server:
        yield server


@pytest.fixture(scope="session")
def client(server) -> openai.OpenAI:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="me", max_retries=0, timeout=30) as client:
        yield client
