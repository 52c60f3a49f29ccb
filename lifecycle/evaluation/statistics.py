"""How sure one can be of a share."""

from __future__ import annotations

import math


def wilson(successes: float, n: float, z: float = 1.96) -> tuple[float, float]:
    """The 95% Wilson score interval of a share; exact enough at 0 and 1, where the normal one is empty (Wilson, 1927)."""
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # The share lies inside; at 0 and 1 rounding would push it out by the last bit, and error bars below zero are refused.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def student(freedom: int) -> float:
    """How many standard errors a 95% interval reaches to either side, for a mean of `freedom` + 1 values (Student, 1908).

    From ten on the normal distribution's, with its first correction (Abramowitz and Stegun, 26.7.5).
    """
    if freedom <= len(STUDENT):
        return STUDENT[freedom - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
