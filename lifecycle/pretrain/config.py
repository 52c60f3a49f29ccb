"""What pretraining can be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lifecycle.config import check_above_zero, check_not_negative, check_seed, choose, override
from lifecycle.errors import LifecycleError
from lifecycle.model.presets import PRESETS as MODEL_PRESETS
from lifecycle.model.presets import ModelConfig

CHOICES = {"schedule": ("cosine", "wsd"), "dtype": ("auto", "fp32", "bf16"), "publish_dtype": ("fp32", "bf16"), "start": ("induction", "random")}


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that decides the weights, apart from the data."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """Shape of the decoder; on the command line --set model.hidden_size=256 and so on."""
    seed: int = 0
    """Decides the initial weights and the order of the data."""
    start: str = "induction"
    """Initial weights: "random", or with a circuit in the first layers that looks things up in the context."""
    tokens: int = 4_600_000
    """Training budget in tokens. More than the data has means more epochs."""
    batch_tokens: int = 1024
    """Most tokens of an optimizer step: whole documents."""
    grad_accumulation: int = 1
    """Pieces that a batch is cut into when it does not fit into memory; the gradient stays the same."""
    curriculum: bool = True
    """Keep the data's own order in the first epoch (the world introduces people first); else shuffle everything."""
    bucket_batches: int = 32
    """Batches' worth of documents that are shuffled and sorted by length together, which attention likes."""
    lr: float = 6e-3
    """Peak learning rate of AdamW: embeddings, head, norm scales."""
    matrix_lr: float = 0.005
    """Peak learning rate of Muon: the matrices inside the blocks."""
    min_lr_ratio: float = 0.1
    """Learning rate at the end, as a part of the peak."""
    warmup: float = 0.02
    """Part of the budget during which the learning rate rises from zero."""
    schedule: str = "cosine"
    """After the warm-up: "cosine" falls all the way, "wsd" stays at the peak and falls linearly at the end."""
    decay: float = 0.2
    """Part of the budget in which "wsd" falls."""
    weight_decay: float = 0.1
    """Decoupled decay, on matrices only."""
    beta1: float = 0.9
    """AdamW's memory of the gradient."""
    beta2: float = 0.95
    """AdamW's memory of the squared gradient."""
    grad_clip: float = 1.0
    """Longest gradient; longer ones are scaled down to it."""
    dtype: str = "auto"
    """Arithmetic: "fp32", "bf16" (autocast; weights stay fp32), or "auto": bf16 where this machine is faster in it."""
    device: str = "auto"
    """"cpu", "cuda", or "auto": a GPU when there is one."""
    sharded: bool = False
    """Of several processes each holds a part of weights and optimizer (FSDP2), not all of them: for what one GPU cannot hold."""
    compile: bool = False
    """Let torch.compile fuse the model: worth its start-up time on a GPU, not on a small run."""
    eval_every: int = 800
    """Steps between two looks at the validation loss."""
    eval_tokens: int = 20_000
    """Most validation tokens to look at."""
    sample_every: int = 1600
    """Steps between two samples of text; 0 for none."""
    checkpoint_every: float = 60.0
    """Seconds between two checkpoints to resume from."""
    publish_dtype: str = "fp32"
    """What the published weights are stored in."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise LifecycleError(f'{name} "{getattr(self, name)}" is unknown: choose one of {", ".join(allowed)}')
        check_above_zero(self, "tokens", "batch_tokens", "grad_accumulation", "bucket_batches", "lr", "matrix_lr", "grad_clip", "eval_every", "eval_tokens")
        check_not_negative(self, "weight_decay", "leaves it out")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise LifecycleError(f"{name} must be from 0 to below 1, not {getattr(self, name)}")
        if not 0 < self.decay <= 1:
            raise LifecycleError(f"decay is a part of the budget, above 0 and at most 1, not {self.decay}")
        at_once = self.batch_tokens // self.grad_accumulation
        if at_once < self.model.context_length:
            raise LifecycleError(
                f"batch_tokens / grad_accumulation is {at_once}, less than a document of "
                f"context_length {self.model.context_length}: raise batch_tokens or lower grad_accumulation"
            )


PRESETS = {
    "tiny": PretrainConfig(),
    "laptop": PretrainConfig(
        model=MODEL_PRESETS["laptop"],
        tokens=15_000_000,
        batch_tokens=2048,
        lr=4e-3,
    ),
    "gpu": PretrainConfig(
        model=MODEL_PRESETS["gpu"],
        tokens=2_500_000_000,
        batch_tokens=524_288,
        grad_accumulation=16,
        curriculum=False,
        start="random",
        lr=1e-3,
        matrix_lr=0.02,
        schedule="wsd",
        compile=True,
        eval_every=250,
        eval_tokens=500_000,
        sample_every=500,
        checkpoint_every=600.0,
        publish_dtype="bf16",
    ),
    "cluster": PretrainConfig(
        model=MODEL_PRESETS["cluster"],
        tokens=20_000_000_000,
        batch_tokens=1_048_576,
        grad_accumulation=64,
        curriculum=False,
        start="random",
        lr=6e-4,
        matrix_lr=0.02,
        schedule="wsd",
        sharded=True,
        compile=True,
        eval_every=500,
        eval_tokens=500_000,
        sample_every=1000,
        checkpoint_every=900.0,
        publish_dtype="bf16",
    ),
}


def configure(preset: str, changes: Mapping[str, Any] | None = None) -> PretrainConfig:
    """A preset with changes; keys that begin with "model." change the shape of the decoder.

    Raises LifecycleError for an unknown preset, key or value.
    """
    config = choose("preset", preset, PRESETS)
    changes = dict(changes or {})
    shape = {key.removeprefix("model."): changes.pop(key) for key in list(changes) if key.startswith("model.")}
    if "model" in changes:
        raise LifecycleError('"model" is not one value: change its fields, for example --set model.num_layers=6')
    # Both at once: a longer context may only be valid together with the larger batch that comes with it.
    return override(config, {**changes, "model": override(config.model, shape)})
