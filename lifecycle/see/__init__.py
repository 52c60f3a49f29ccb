"""Learning to see: a vision tower learns what captions say, and a language model learns to answer about what it shows."""

from lifecycle.see.config import PRESETS, SeeConfig
from lifecycle.see.stage import run

__all__ = ["PRESETS", "SeeConfig", "run"]
