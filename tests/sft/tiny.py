"""What the stages after pretraining start from, small: a world, a tokenizer of its text, a random model in a registry."""

from __future__ import annotations

import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from lifecycle.model import tokenizer_stage
from lifecycle.model.checkpoint import save_checkpoint
from lifecycle.model.decoder import Decoder
from lifecycle.model.presets import ModelConfig
from lifecycle.model.tokenizer import load_tokenizer
from lifecycle.registry import ModelRegistry, ModelVersion
from lifecycle.world.config import WorldConfig
from lifecycle.world.corpus import pretraining_corpus

WORLD = WorldConfig(documents=300, conversations=40, prompts=30, max_sentences=2)
SHAPE = ModelConfig(
    vocab_size=420, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=48, context_length=512
)


@dataclass(frozen=True)
class Start:
    """A registry that holds "tokenizer/1" and random models."""

    registry: ModelRegistry

    @classmethod
    def make(cls, root: Path) -> Start:
        registry = ModelRegistry(root)
        documents, _, data = pretraining_corpus(WORLD)
        config = tokenizer_stage.TokenizerConfig(vocab_size=SHAPE.vocab_size)
        tokenizer_stage.run(config, registry, documents["text"], data)
        return cls(registry)

    def copy(self, root: Path) -> Start:
        """The same in a registry of one's own."""
        return Start(ModelRegistry(shutil.copytree(self.registry.root, root)))

    def model(self, stage: str = "pretrain", seed: int = 0, shape: ModelConfig = SHAPE) -> ModelVersion:
        """Publish a model of random weights as a version of `stage`."""
        tokenizer = self.registry.load("tokenizer/1")
        words = load_tokenizer(tokenizer.path)
        write = lambda directory: save_checkpoint(Decoder(shape, seed=seed), shape, words, directory)  # noqa: E731
        return self.registry.publish(stage, write, parents=[tokenizer], seed=seed)

    def workspaces(self) -> list[Path]:
        return list((self.registry.root / ".work").glob("*-*"))


class PressCtrlC(TrainerCallback):
    """Sends SIGINT at the end of a step, once."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            signal.raise_signal(signal.SIGINT)


def pressing_ctrl_c(monkeypatch, step: int):
    """While this patch holds, every trainer is interrupted at the end of that step."""
    from lifecycle import trainers

    train = trainers.train

    def interrupted(trainer, *told):
        trainer.add_callback(PressCtrlC(step))
        return train(trainer, *told)

    monkeypatch.setattr(trainers, "train", interrupted)


def weights(version: ModelVersion) -> dict[str, torch.Tensor]:
    return load_file(Path(version.path) / "model.safetensors")


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
