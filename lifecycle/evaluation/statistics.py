"""How sure one can be of a share."""

from __future__ import annotations

import math


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95% Wilson score interval of a share; exact enough at 0 and 1, where the normal one is empty (Wilson, 1927)."""
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # The share lies inside; at 0 and 1 rounding would push it out by the last bit, and error bars below zero are refused.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))
