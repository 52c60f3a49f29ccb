"""Codes to sound while they are still being written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lifecycle.speak.codec import CODES, Codec
from lifecycle.speak.sound import Waves


class Aloud:
    """Reads one answer aloud: the same samples however its codes are cut up when they come."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._waves = Waves()
        self._last = CODES

    @torch.inference_mode()
    def push(self, codes: Sequence[int]) -> np.ndarray:
        """Further codes to the float samples at 16 kHz that are known by then."""
        if not codes:
            return np.zeros(0, np.float32)
        mel = self._codec.decode(torch.tensor([codes]), self._last)[0]
        self._last = codes[-1]
        return self._waves.push(mel).numpy()

    @torch.inference_mode()
    def finish(self) -> np.ndarray:
        """Nothing follows: the samples that are left."""
        return self._waves.finish().numpy()
