"""A real engine on a tiny random model, and a checkpoint directory of it."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lifecycle.model.tokenizer import train_tokenizer
from serving.application.engine import EngineLoop
from serving.domain.events import Finished
from serving.infrastructure.sampler import VectorSampler
from serving.infrastructure.torch_backend import PackedTorchBackend


@pytest.fixture(scope="package")
def model():
    torch.manual_seed(1)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=320,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
        )
    )


@pytest.fixture(scope="package")
def checkpoint(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(path)
    train_tokenizer(["the quick brown fox jumps over the lazy dog"] * 4, 320).save_pretrained(path)
    return path


@pytest.fixture(scope="package")
def run_engine(model):
    """Run requests that arrive all at once, to the end."""

    def run(config, requests, observer):
        backend = PackedTorchBackend(model, num_blocks=config.num_blocks, block_size=config.block_size)
        engine = EngineLoop(backend, VectorSampler(), config, context_length=512, observer=observer).start()
        try:
            engine.pause()
            streams = [engine.submit(request) for request in requests]
            engine.resume()
            for stream in streams:
                while not isinstance(stream.next(30.0)[-1], Finished):
                    pass
        finally:
            engine.close()

    return run
