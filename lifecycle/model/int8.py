"""W8A8: weights and activations in int8, each output of a matrix and each token's input on a scale of its own."""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST = 127


def quantise_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """[n, k] floating point to int8 [n, k] and scales [n, 1], with rows = values * scales up to rounding."""
    most = rows.abs().amax(-1, keepdim=True)
    scales = torch.where(most > 0, most / LARGEST, 1.0)
    return (rows / scales).round().to(torch.int8), scales
