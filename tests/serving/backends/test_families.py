"""Every family gets the logits of transformers' eager attention, whichever way it goes and however it is cut up."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.infrastructure.config import ServingConfig
from serving.infrastructure.torch_backend import PackedTorchBackend
from serving.infrastructure.torch_loading import choose_backend

from .families import AGAIN, FAMILIES, document
from .replay import BLOCK, BLOCKS, Replay

CONFIG = ServingConfig(block_size=BLOCK, num_blocks=BLOCKS, device="cpu", dtype="float32")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_logits_are_those_of_each_sequence_alone(family):
    model = family.model()
    backend = choose_backend(model, CONFIG)
    assert (None if isinstance(backend, PackedTorchBackend) else str(backend.abilities)) == family.how
    for seed in range(1 if family.how == AGAIN else 2):  # computing everything again takes its time
        replay = Replay(model, backend, seed)
        assert replay.run() < family.tolerance
        assert replay.hits or family.way == "padded"


def test_the_document_lists_what_is_tested():
    committed = Path(__file__).parents[3] / "docs" / "model-families.md"
    assert committed.read_text() == document(), (
        "run: python -m tests.serving.backends.families > docs/model-families.md"
    )
