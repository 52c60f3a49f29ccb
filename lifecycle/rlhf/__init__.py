"""Reinforcement learning from human feedback: a reward model, DPO and GRPO, one after the other."""

from lifecycle.rlhf.config import PRESETS, RLHFConfig
from lifecycle.rlhf.stage import run

__all__ = ["PRESETS", "RLHFConfig", "run"]
