"""A real, very small pretraining run: 300 documents, a model of twenty thousand parameters."""

import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from datasets import Dataset

from lifecycle.model import tokenizer_stage
from lifecycle.model.presets import ModelConfig
from lifecycle.pretrain import PretrainConfig, run
from lifecycle.registry import DataRef, ModelRegistry, ModelVersion

SHAPE = ModelConfig(
    vocab_size=300, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=48, context_length=32
)
CONFIG = PretrainConfig(
    model=SHAPE,
    tokens=6000,
    batch_tokens=512,
    bucket_batches=4,
    dtype="fp32",
    eval_every=5,
    eval_tokens=300,
    lr=0.015,
    sample_every=6,
    warmup=0.1,
)


def documents(count: int, seed: int) -> Dataset:
    """Sentences of a few words, some longer than the context."""
    rng = random.Random(seed)
    names, things = ["Ann", "Bob", "Eve"], ["apples", "pears", "kites"]
    sentence = lambda: f"{rng.choice(names)} has {rng.randrange(20)} {rng.choice(things)}."  # noqa: E731
    return Dataset.from_dict({"text": [" ".join(sentence() for _ in range(rng.randint(1, 6))) for _ in range(count)]})


@dataclass(frozen=True)
class Run:
    """Everything `lifecycle.pretrain.run` wants, on a registry of its own."""

    registry: ModelRegistry
    dataset: Dataset
    validation: Dataset
    data: DataRef
    tokenizer: ModelVersion

    def __call__(self, config: PretrainConfig = CONFIG, **arguments) -> ModelVersion:
        inputs = dict(dataset=self.dataset, validation=self.validation, data=self.data, tokenizer=self.tokenizer)
        return run(config, self.registry, **{**inputs, **arguments})

    def workspaces(self) -> list[Path]:
        return list((self.registry.root / ".work").glob("pretrain-*"))


def set_up(root: Path) -> Run:
    registry, dataset, data = ModelRegistry(root), documents(300, seed=1), DataRef("test", "0")
    tokenizer = tokenizer_stage.run(tokenizer_stage.TokenizerConfig(vocab_size=300), registry, dataset["text"], data)
    return Run(registry, dataset, documents(20, seed=2), data, tokenizer)


@pytest.fixture
def setting(tmp_path) -> Run:
    return set_up(tmp_path)


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory) -> ModelVersion:
    """What a run with CONFIG publishes when nothing gets in its way."""
    return set_up(tmp_path_factory.mktemp("uninterrupted"))()
