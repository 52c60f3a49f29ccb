"""Supervised fine-tuning: a base model learns to answer, from conversations."""

from lifecycle.sft.config import PRESETS, SFTConfig
from lifecycle.sft.train import run

__all__ = ["PRESETS", "SFTConfig", "run"]
