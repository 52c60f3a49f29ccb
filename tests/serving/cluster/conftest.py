"""A tiny model with an engine in this process, and the same one behind two replicas on a real Ray cluster."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from transformers import GenerationConfig

from lifecycle.model.tokenizer import train_tokenizer
from serving.composition import ServingConfig, build_engine
from tests.serving.engine.conftest import FAMILIES

CONFIG = ServingConfig(
    num_blocks=64, block_size=4, dtype="float32", device="cpu", backend="packed", adapters=True, max_num_seqs=4, max_num_batched_tokens=64,
    replica_pace=0.01,
)  # fmt: skip


@pytest.fixture(scope="package")
def checkpoint(tmp_path_factory):
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("checkpoint")
    FAMILIES["llama"]().save_pretrained(path)
    train_tokenizer(["hello"], 300).save_pretrained(path)
    GenerationConfig(eos_token_id=0).save_pretrained(path)
    return path


@pytest.fixture(scope="package")
def alone(checkpoint):
    served = build_engine(checkpoint, CONFIG)
    yield served.engine
    served.engine.close()


@pytest.fixture(scope="package")
def replicated(checkpoint):
    if find_spec("ray") is None:  # not imported here: it reads its settings then, and who serves makes them
        pytest.skip("replicas run on Ray: pip install -e '.[ray]'")
    served = build_engine(checkpoint, replace(CONFIG, replicas=2))
    yield served
    served.engine.close()
