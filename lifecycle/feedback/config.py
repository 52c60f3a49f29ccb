"""What a round of learning from feedback can be told."""

from __future__ import annotations

from dataclasses import dataclass

from lifecycle.config import check_above_zero, check_not_negative, check_seed
from lifecycle.errors import LifecycleError


@dataclass(frozen=True)
class FeedbackConfig:
    """A short round at a low rate: people mark dozens of answers, not thousands, and the rest is to stay as it is."""

    seed: int = 0
    """Decides the order of the data."""
    dtype: str = "auto"
    """Arithmetic: "fp32", "bf16" (autocast), or "auto": bf16 where this machine is faster in it."""
    save_every: int = 10
    """Steps between two checkpoints to resume from."""
    least: int = 8
    """Fewest pairs that DPO, and fewest lone thumbs that KTO starts with: fewer would teach the accidents of a few answers."""
    steps: int = 30
    """Optimizer steps of DPO, and of KTO."""
    batch: int = 8
    """Pairs, or lone thumbs, per step."""
    lr: float = 1e-4
    """Peak learning rate."""
    beta: float = 0.3
    """How strongly the model is held to what it was."""
    sft_weight: float = 1.0
    """DPO: weight of the loss of plain imitation of the better answer."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_above_zero(self, "save_every", "least", "steps", "lr", "beta")
        check_not_negative(self, "sft_weight", "leaves it out")
        if self.batch < 2:
            raise LifecycleError(f"batch must be at least 2, not {self.batch}: KTO compares with the other answers of a batch")


PRESETS = {"tiny": FeedbackConfig(), "laptop": FeedbackConfig(lr=3e-5), "gpu": FeedbackConfig(lr=1e-6), "cluster": FeedbackConfig(lr=1e-6)}
