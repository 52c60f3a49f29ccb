"""Q4_K, the four-bit format of llama.cpp: the `gguf` package reads it and does not write it.

A super-block of 256 weights of one row holds eight blocks of 32. A block's weights are w = d * s * q - dmin * m, with q in 0..15 for
each weight, s and m in 0..63 for each block, and d and dmin in float16 for the super-block: 144 bytes, 4.5 bits a weight.
"""

from __future__ import annotations

import numpy as np

SUPER, BLOCK = 256, 32
"""Weights that share d and dmin, and weights that share s and m."""
BYTES = 144
"""Of a super-block."""
LEVELS, SCALES = 15, 63
ROUNDS = 6
"""Of refining scale and minimum of a block."""


def quantise(rows: np.ndarray) -> np.ndarray:
    """[rows, columns] of float32, columns a multiple of 256, to [rows, columns / 256 * 144] of bytes."""
    blocks = rows.astype(np.float32).reshape(-1, SUPER // BLOCK, BLOCK)  # [S, 8, 32]
    scale, low = _fit(blocks)
    d, s = _six_bits(scale)
    dmin, m = _six_bits(low)
    step, offset = (d[:, None] * s)[..., None], (dmin[:, None] * m)[..., None]
    q = _nearest(blocks, step, offset).astype(np.uint8)
    packed = [_halves(d), _halves(dmin), _pack_scales(s.astype(np.uint8), m.astype(np.uint8)), _pack_nibbles(q)]
    return np.concatenate(packed, axis=1).reshape(rows.shape[0], -1)


def _fit(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each block a scale and a minimum below zero, both as positive numbers: [S, 8].

    Begins with what the range asks for and goes on with least squares for the levels found, as long as the error shrinks.
    """
    low = np.minimum(blocks.min(-1), 0.0)
    scale = (blocks.max(-1) - low) / LEVELS
    offset = -low
    best = np.full(scale.shape, np.inf, np.float32)
    kept = scale.copy(), offset.copy()
    for _ in range(ROUNDS):
        q = _nearest(blocks, scale[..., None], offset[..., None])
        error = np.square(blocks - (scale[..., None] * q - offset[..., None])).sum(-1)
        better = error < best
        best = np.where(better, error, best)
        kept = np.where(better, scale, kept[0]), np.where(better, offset, kept[1])
        scale, offset = _least_squares(blocks, q, scale, offset)
    return kept


def _least_squares(blocks: np.ndarray, q: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """w = scale * q - offset for given levels; what it was where that has no answer with scale > 0 and offset >= 0."""
    mean_q, mean_w = q.mean(-1), blocks.mean(-1)
    spread = np.square(q - mean_q[..., None]).sum(-1)
    slope = ((q - mean_q[..., None]) * (blocks - mean_w[..., None])).sum(-1) / np.maximum(spread, 1e-12)
    new = slope * mean_q - mean_w
    fine = (slope > 0) & (new >= 0) & (spread > 0)
    return np.where(fine, slope, scale), np.where(fine, new, offset)


def _six_bits(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of eight positive numbers one factor, as float16 has it, [S], and eight integers of 0..63, [S, 8]."""
    factor = (values.max(-1) / SCALES).astype(np.float16).astype(np.float32)
    safe = np.where(factor > 0, factor, 1.0)[:, None]
    return factor, np.where(factor[:, None] > 0, np.clip(np.rint(values / safe), 0, SCALES), 0)


def _nearest(blocks: np.ndarray, step: np.ndarray, offset: np.ndarray) -> np.ndarray:
    return np.clip(np.rint((blocks + offset) / np.where(step > 0, step, 1.0)), 0, LEVELS)


def _halves(values: np.ndarray) -> np.ndarray:
    return values.astype("<f2").reshape(-1, 1).view(np.uint8)


def _pack_scales(s: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Sixteen numbers of six bits into twelve bytes: four and four whole, the upper two bits of the others above them."""
    whole_s, whole_m = s[:, :4] | (s[:, 4:] >> 4) << 6, m[:, :4] | (m[:, 4:] >> 4) << 6
    return np.concatenate([whole_s, whole_m, s[:, 4:] & 15 | (m[:, 4:] & 15) << 4], axis=1)


def _pack_nibbles(q: np.ndarray) -> np.ndarray:
    """Two neighbouring blocks share 32 bytes: the first has the lower halves."""
    pairs = q.reshape(-1, SUPER // BLOCK // 2, 2, BLOCK)
    return (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(-1, SUPER // 2)
