"""What a deployed version says about itself."""

from __future__ import annotations

import random

from lifecycle import deploy
from lifecycle.model.checkpoint import save_checkpoint
from lifecycle.model.decoder import Decoder
from lifecycle.model.presets import ModelConfig
from lifecycle.model.tokenizer import SMALLEST_VOCABULARY, train_tokenizer
from lifecycle.registry import ModelRegistry
from lifecycle.world.config import WorldConfig
from lifecycle.world.corpus import documents

SHAPE = ModelConfig(
    vocab_size=SMALLEST_VOCABULARY + 40,
    hidden_size=32,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    intermediate_size=48,
    context_length=1024,
)


def test_the_manifest_records_how_far_the_artefact_is_from_its_parent(tmp_path):
    tokenizer = train_tokenizer((one.text for one in documents(WorldConfig(documents=200, max_sentences=4), random.Random(0))), SHAPE.vocab_size)
    save_checkpoint(Decoder(SHAPE), SHAPE, tokenizer, tmp_path / "checkpoint")
    registry = ModelRegistry(tmp_path / "registry")
    parent = registry.import_directory(tmp_path / "checkpoint", "small")

    version = deploy.run(deploy.DeployConfig(prompts=20), registry, parent=parent)

    metrics = version.manifest.metrics
    assert 0 < metrics["agreement"] <= 1
    assert 0 <= metrics["mean_difference"] <= metrics["max_difference"]
    assert version.manifest.seconds > 0
    assert not list(registry.root.glob(".work/*"))
    assert deploy.run(deploy.DeployConfig(prompts=20), registry, parent=parent) == version
