"""The learning rate as a function of how much of the budget is spent."""

from __future__ import annotations

import math

from lifecycle.pretrain.config import PretrainConfig


def rate_scale(config: PretrainConfig, spent: float) -> float:
    """The part of the peak rate, 0 to 1, for the step that begins when `spent` (0 to 1) of the tokens are used.

    Linear warm-up, then down to min_lr_ratio: "cosine" (arXiv 1608.03983) or "wsd", warm-up-stable-decay (2404.06395).
    """
    if spent < config.warmup:
        half_a_step = 0.5 * config.batch_tokens / config.tokens  # so that the first update is not wasted on a rate of 0
        return min(1.0, (spent + half_a_step) / config.warmup)
    if config.schedule == "cosine":
        falling = (spent - config.warmup) / (1 - config.warmup)
        level = 0.5 * (1 + math.cos(math.pi * min(1.0, falling)))
    else:
        level = min(1.0, max(0.0, (1 - spent) / config.decay))
    return config.min_lr_ratio + (1 - config.min_lr_ratio) * level
