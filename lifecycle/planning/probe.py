"""How fast this machine trains: a few steps of the real loop on a model of the planned shape."""

from __future__ import annotations

import dataclasses
import time

import numpy as np

from lifecycle.hardware import choose_arithmetic, choose_device
from lifecycle.model.decoder import Decoder
from lifecycle.model.optimizer import MuonAdamW
from lifecycle.model.presets import ModelConfig
from lifecycle.pretrain.config import PretrainConfig
from lifecycle.training.batches import Documents, collate
from lifecycle.training.loop import update, work

LARGEST = 40_000_000
"""Parameters of the largest model that is probed as it is; of a larger one two layers with a small vocabulary."""
ROW = 128
TOKENS = 4096
"""In a step, at most."""


def flops_per_second(config: PretrainConfig, seconds: float = 2.0) -> float:
    """Floating-point operations of training, as `ModelConfig.flops_per_token` counts them, in a second of steps."""
    device = choose_device(config.device)
    dtype = choose_arithmetic(config.dtype, device)
    shape = probed(config.model)
    model = Decoder(shape, config.seed).to(device)
    optimizer = MuonAdamW(model, lr=config.lr, matrix_lr=config.matrix_lr)
    length = min(ROW, shape.context_length)
    rows = max(1, min(TOKENS, config.batch_tokens // config.grad_accumulation) // length)
    tokens = np.random.default_rng(0).integers(shape.vocab_size, size=rows * length + 1)
    starts = np.arange(rows) * length
    batch = collate(Documents(tokens, starts, starts + length + 1), np.arange(rows))
    update(model, optimizer, [batch], config.grad_clip, device, dtype)  # the first step sets things up
    done, started = 0.0, time.perf_counter()
    while not done or time.perf_counter() - started < seconds:
        update(model, optimizer, [batch], config.grad_clip, device, dtype)
        done += work(model, [batch])
    return done / (time.perf_counter() - started)


def probed(shape: ModelConfig) -> ModelConfig:
    """The shape itself, or a slice of one that is too large to be built for a moment."""
    if shape.num_parameters <= LARGEST:
        return shape
    return dataclasses.replace(shape, num_layers=2, vocab_size=min(shape.vocab_size, 4096))
