"""Every family gets the logits of transformers' eager attention, whichever way it goes and however it is cut up."""

from __future__ import annotations

import pytest

from serving.infrastructure.config import ServingConfig
from serving.infrastructure.loading import choose_backend
from serving.infrastructure.torch_backend import PackedTorchBackend

from .families import FAMILIES
from .replay import BLOCK, BLOCKS, Replay

CONFIG = ServingConfig(block_size=BLOCK, num_blocks=BLOCKS, device="cpu", dtype="float32")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_logits_are_those_of_each_sequence_alone(family):
    model = family.model()
    backend = choose_backend(model, CONFIG)
    assert ("packed" if isinstance(backend, PackedTorchBackend) else "padded") == family.way
    for seed in range(2):
        replay = Replay(model, backend, seed)
        assert replay.run() < 1e-4
        assert replay.hits or family.way == "padded"
