"""What supervised fine-tuning can be told."""

from __future__ import annotations

from dataclasses import dataclass

from lifecycle.config import check_above_zero, check_seed
from lifecycle.errors import LifecycleError

METHODS = ("full", "lora", "adapter")


@dataclass(frozen=True)
class SFTConfig:
    """Everything that decides the weights, apart from the data and the parent."""

    method: str = "full"
    """"full" trains every weight; "lora" trains low-rank adapters (PEFT) and the embeddings of control tokens, and merges them when it
    publishes; "adapter" trains low-rank adapters and publishes them alone, as "adapter/N", to be served beside others on one base."""
    seed: int = 0
    """Decides the order of the data."""
    epochs: float = 1.0
    """Passes over the conversations."""
    max_length: int = 512
    """Longest conversation in tokens (with TRL: length of a packed row); longer ones are cut."""
    batch_rows: int = 2
    """An optimizer step takes at most this many times max_length tokens (with TRL: this many packed rows)."""
    lr: float = 3e-3
    """Peak learning rate of AdamW."""
    matrix_lr: float = 0.005
    """Peak learning rate of Muon (matrices inside the blocks); with LoRA, whose matrices are thin, unused."""
    warmup: float = 0.03
    """Part of the steps during which the learning rate rises from zero."""
    lora_rank: int = 16
    """Rank of the adapters."""
    lora_alpha: int = 32
    """Scale of the adapters: alpha / rank."""
    dtype: str = "auto"
    """Arithmetic: "fp32", "bf16" (autocast), or "auto": bf16 where this machine is faster in it."""
    save_every: int = 250
    """Steps between two checkpoints to resume from."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.method not in METHODS:
            raise LifecycleError(f'method "{self.method}" is unknown: choose one of {", ".join(METHODS)}')
        check_above_zero(self, "epochs", "max_length", "batch_rows", "lr", "matrix_lr", "lora_rank", "save_every")


PRESETS = {
    "tiny": SFTConfig(),
    "laptop": SFTConfig(max_length=1024, lr=2e-3),
    "gpu": SFTConfig(max_length=2048, batch_rows=32, lr=2e-5, matrix_lr=2e-4),
    "cluster": SFTConfig(max_length=2048, batch_rows=32, lr=1e-5, matrix_lr=1e-4),
}
